"""The command that publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sia_gen.cli.common import say


def push_to_hub(
    folder: Annotated[
        Path, typer.Argument(help="A corpus, an SDAS pipeline, or a RealNet.", metavar="FOLDER")
    ],
    repository: Annotated[
        str, typer.Argument(help="Where it goes on the Hub, OWNER/NAME.", metavar="REPO")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository a private one.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Branch, or pull request such as refs/pr/1, to write to."),
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request with it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go; send nothing.")
    ] = False,
) -> None:
    """Publish a corpus or a model on the Hugging Face Hub, with a card that tells how it was made.

    The token is that of 'hf auth login' or HF_TOKEN. A corpus is verified first.
    If it is broken off, run the same command again: it sends what is missing.

    Example: sia-gen push-to-hub runs/elpv/corpus you/elpv-anomalies

    A model: sia-gen push-to-hub runs/elpv/realnet/mono you/elpv-realnet
    """
    from sia_gen.hub.client import give_up_in_time
    from sia_gen.hub.push import push_to_hub as push

    give_up_in_time()
    told = push(
        folder,
        repository,
        private=private,
        revision=revision,
        create_pr=create_pr,
        dry_run=dry_run,
    )
    say(told)
