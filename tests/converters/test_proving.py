"""Advice after a proof that failed."""

import torch

from converters.proving import what_to_do


def test_advice_names_the_versions_and_the_way_back() -> None:
    assert "passed with torch 2.8.0 on the CPU" in what_to_do("2.8.0", "cpu")
    assert "--device cpu" not in what_to_do("2.8.0", "cpu")
    assert f"fails here with torch {torch.__version__} on cuda:1. See whether it passes on the CPU" in what_to_do(
        "2.8.0", "cuda:1"
    )
