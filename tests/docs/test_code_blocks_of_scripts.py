"""The code blocks of pages that run a script of `scripts/` run, the scripts with less work than the page asks for."""

from collections.abc import Callable

import pytest
from code_blocks import PAGES, Block, blocks_of, runs_a_script
from page_runs import RUN, PageRun, require_run

BLOCKS = [block for page in PAGES if runs_a_script(page) for block in blocks_of(page) if block.language in RUN]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs(block: Block, run_of: Callable[..., PageRun]) -> None:
    require_run(block, run_of(block.page, processes=True))


def test_there_are_such_pages() -> None:
    assert len({block.page for block in BLOCKS}) > 3
