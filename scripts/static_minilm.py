"""all-MiniLM-L6-v2 as a teacher for `distill_static.py`: embeddings of word pieces and of texts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

os.environ["HF_HUB_OFFLINE"] = "1"

Matrix = npt.NDArray[np.float32]
BATCH_TOKENS = 4096
LONGEST = 96
"""Tokens of a text; the pieces that are distilled have some 30."""
SPECIAL = 104
"""The first ids of BERT's vocabularies are not words but marks and room for more of them."""


class MiniLM:
    """The model in bfloat16, which is several times as fast as float32 on current CPUs."""

    special = SPECIAL

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval().to(torch.bfloat16)
        by_id = sorted(self._tokenizer.get_vocab().items(), key=lambda item: item[1])
        self.words = [word for word, _ in by_id]

    def tokens(self) -> Matrix:
        """Each word piece alone between [CLS] and [SEP]: the mean of the last layer, (V, 384)."""
        torch, size = self._torch, 1024
        found = []
        for start in range(0, len(self.words), size):
            ids = torch.arange(start, min(start + size, len(self.words)))
            marks = (torch.full_like(ids, 101), torch.full_like(ids, 102))
            batch = torch.stack([marks[0], ids, marks[1]], 1)
            found.append(self._last_layer(batch, torch.ones_like(batch)).mean(1).numpy())
        return np.concatenate(found)

    def sentences(self, texts: list[str]) -> Matrix:
        """As sentence-transformers does it: mean of the last layer over the tokens, unit norm, (n, 384)."""
        torch = self._torch
        ids = self._tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = np.zeros((len(ids), 384), np.float32)
        start = 0
        while start < len(order):
            rows = order[start : start + max(1, BATCH_TOKENS // max(8, len(ids[order[start]])))]
            batch = torch.zeros(len(rows), len(ids[rows[-1]]), dtype=torch.long)
            mask = torch.zeros_like(batch)
            for place, row in enumerate(rows):
                batch[place, : len(ids[row])] = torch.tensor(ids[row])
                mask[place, : len(ids[row])] = 1
            weights = mask[..., None].float()
            means = (self._last_layer(batch, mask) * weights).sum(1) / weights.sum(1)
            found[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
            start += len(rows)
        return found

    def _last_layer(self, ids: object, mask: object) -> object:
        with self._torch.inference_mode():
            return self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
