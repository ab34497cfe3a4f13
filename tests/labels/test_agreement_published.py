"""Agreement as others have published it of their own data: the same figures, from their files."""

import gzip
import json
from collections import Counter

import pytest

from labkit.labels.agreement import agreement_of_files
from tests.labels.test_agreement import FAST, write


@pytest.mark.real
def test_pandalm_kappas_and_majorities_are_the_published_ones(tmp_path, real_data):
    with gzip.open(real_data / "pandalm/testset-v1.json.gz", "rt") as file:
        items = json.load(file)
    rows = [{"item": r["idx"], "annotator": a, "label": r[f"annotator{a}"]} for r in items for a in (1, 2, 3)]
    section = agreement_of_files([write(tmp_path / "p.jsonl", rows)], **FAST).ratings
    kappas = [round(row["cohen_kappa"].value, 2) for row in section.labeler_pairs]
    assert [row["labelers"] for row in section.labeler_pairs] == [["1", "2"], ["1", "3"], ["2", "3"]]
    assert kappas == [0.85, 0.88, 0.86]
    majority = Counter(Counter(r[f"annotator{a}"] for a in (1, 2, 3)).most_common(1)[0][0] for r in items)
    assert majority == {0: 105, 1: 422, 2: 472} and section.counts["items_shared"] == 999


@pytest.mark.real
def test_squality_reviewers_agree_on_strict_pairs_as_the_reference_says(tmp_path, real_data):
    rows = []
    with gzip.open(real_data / "squality/human_eval_all-responses.jsonl.gz", "rt") as file:
        for passage in map(json.loads, file):
            for number, systems in passage["questions"].items():
                reviews = [(s, r) for s, answer in systems.items() for r in answer["reviews"]]
                for worker in sorted({r["worker_id"] for _, r in reviews}):
                    ranks = {s: r["overall-rank"] for s, r in reviews if r["worker_id"] == worker}
                    rows.append({"question": f"{passage['passage-id']}/{number}", "worker": worker, "ranks": ranks})
    section = agreement_of_files([write(tmp_path / "s.jsonl", rows)], **FAST).rankings
    assert section.counts["prompts_shared"] == 100 and section.counts["rankings"] == 300
    assert round(section.figures["agreement_strict"].value, 3) == 0.871
