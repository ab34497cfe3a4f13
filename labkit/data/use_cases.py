"""The ten use cases of the paper and their shares of the API prompts (Table 1)."""

__all__ = ["USE_CASES", "USE_CASE_TITLES"]

#: Share of each use case among API prompts, in per cent (paper, Table 1). They sum to 99.9 by rounding.
USE_CASES: dict[str, float] = {
    "generation": 45.6,
    "open_qa": 12.4,
    "brainstorming": 11.2,
    "chat": 8.4,
    "rewrite": 6.6,
    "summarization": 4.2,
    "classification": 3.5,
    "other": 3.5,
    "closed_qa": 2.6,
    "extract": 1.9,
}

#: The paper's own wording, for tables and figures.
USE_CASE_TITLES: dict[str, str] = {
    "generation": "Generation",
    "open_qa": "Open QA",
    "brainstorming": "Brainstorming",
    "chat": "Chat",
    "rewrite": "Rewrite",
    "summarization": "Summarization",
    "classification": "Classification",
    "other": "Other",
    "closed_qa": "Closed QA",
    "extract": "Extract",
}
