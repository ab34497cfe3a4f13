"""What tests of fast paths share: flash attention's part, played on a CPU."""

import pytest
import torch
import torch.nn.functional as F

from labkit.models import packed


def row_by_row(q, k, v, ends, ends_k, longest, longest_k, *, scale, window_size, enable_gqa=False):
    """What flash attention computes on rows that it is told the ends of, in plain steps; (T, H, d) each."""
    assert window_size == (-1, 0) and ends is ends_k and longest == longest_k >= int(ends.diff().max())
    parts = []
    for first, last in zip(ends.tolist(), ends.tolist()[1:], strict=False):
        row = [x[first:last].transpose(0, 1)[None] for x in (q, k, v)]
        if last > first:
            out = F.scaled_dot_product_attention(*row, is_causal=True, scale=scale, enable_gqa=enable_gqa)
            parts.append(out[0].transpose(0, 1))
    assert ends[-1] == len(q), "every token belongs to a row"
    return torch.cat(parts)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(packed, "_flash_reads", lambda values, width: True)
    monkeypatch.setattr(packed, "varlen_attn", row_by_row)
