"""Publishes a corpus or a model: checks it, then sends what is missing.

Large files go first, and the files that make it a corpus or a model last, so readers find the old
state until everything has arrived. The first commit announces what is coming, so that after an
interruption the next push recognises it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from sia_gen.corpus.manifest import MANIFEST
from sia_gen.errors import HubError, OptionError
from sia_gen.hub.corpora import CorpusPublication
from sia_gen.hub.models import ModelPublication
from sia_gen.hub.repository import Publication, Repository
from sia_gen.realnet.inference import REPORT as FIT_REPORT
from sia_gen.sdas.validation import INDEX


def push_to_hub(
    folder: Path,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
) -> str:
    """Sends a corpus or a model to the Hub; returns a message about what was, or would be, done.

    Args:
        name: The repository, `owner/name`; without an owner it belongs to the user.
        revision: Branch or pull request to write to; a branch is created if necessary.
        create_pr: Whether to open a pull request instead of writing to the main branch.
        dry_run: Whether to list what would be sent, and to change nothing.
    """
    if create_pr and revision is not None:
        raise OptionError(
            problem="--create-pr opens its pull request on the main branch.",
            fix="Leave --revision out; to continue a pull request, give it as --revision alone.",
        )
    publication = _publication_of(folder)
    repository = Repository(name, publication.kind, revision or "main")
    repository.sign_in()
    files = repository.files()
    foreign = publication.foreign(repository, files)
    if foreign is not None:
        raise HubError(
            problem=f"{repository} holds something else: {foreign}.",
            fix="Choose another repository, or delete that one on the Hub.",
        )
    if private:
        repository.require_private()
    if dry_run:
        with TemporaryDirectory() as prepared:
            publication.prepare(repository.name, Path(prepared))
            return publication.list_missing(repository, files, Path(prepared))
    publication.prepare(repository.name, folder)
    large, small = publication.missing(files, folder)
    repository.create(private=private)
    if not (large or small):
        return f"{repository.url} is complete: there is nothing to send."
    opened = None
    if create_pr or not publication.claim.keys() <= files.keys():
        title = f"Begin: {publication.title}"
        opened = repository.commit(publication.claim, title, create_pr=create_pr)
    if opened is not None:
        revision = repository.revision
        print(f"Opened {opened}; to continue it later: --revision {revision}", flush=True)
    if large:
        repository.upload(folder, large, publication.title)
    if small:
        repository.commit({path: folder / path for path in small}, publication.title)
    return f"Published: {opened or repository.url}"


def _publication_of(folder: Path) -> Publication:
    if (folder / MANIFEST).is_file():
        return CorpusPublication(folder)
    marks = (INDEX, FIT_REPORT)
    if any((folder / mark).is_file() for mark in marks):
        return ModelPublication(folder)
    inside = sorted(path.parent for mark in marks for path in folder.glob(f"*/{mark}"))
    if inside:
        raise OptionError(
            problem=f"{folder} holds folders of models; a repository holds one model.",
            fix=f"Give one of them, such as {inside[0]}.",
        )
    raise OptionError(
        problem=f"there is no corpus, SDAS pipeline or RealNet in {folder}.",
        fix="Give the folder that 'synthesize', 'train-diffusion' or 'fit-realnet' wrote.",
    )
