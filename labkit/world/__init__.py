"""The closed world: a small English of known truth, with its corpus, prompts, judge, labelers and base models.

facts.py        what is true; lexicon.py: the words; sentences.py: from facts to text; reading.py: and back
corpus.py       the text to pretrain on, with passages.py; rows.py: packed; tokenizer.py: its tokens
prompts.py      of customers and labelers, worded by phrasings.py; tasks/: what a prompt means; personal.py: invented data
responses.py    good and bad answers; answer.py, constraints.py, scoring.py: how each is read; judge.py: what it is worth
labelers.py     forty of them; shown.py: what they see; screening.py: how they are chosen
pretrain.py     the base models, with muon.py; probe.py: what they know; benchmarks/: the miniatures
reader.py       the reward model's base, with exercises.py and surprise.py
"""
