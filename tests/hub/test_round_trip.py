"""What was published is read back by clients that know nothing of sia-gen, and by sia-gen."""

from __future__ import annotations

import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import webdataset
from datasets import Features, Image, Value, load_dataset
from safetensors.torch import load_file

from sia_gen import PerturbedDDPMScheduler, RealNet, SDASPipeline
from sia_gen.config.recipe import Recipe
from sia_gen.corpus.reading import SampleReader
from sia_gen.corpus.schema import SampleMetadata
from sia_gen.errors import CorpusError, ModelError, OutputError
from sia_gen.hub.push import push_to_hub
from sia_gen.io.files import location, prepare_output
from sia_gen.realnet.fitting import fit_realnet
from sia_gen.runtime.device import Runtime
from tests.corpus.conftest import HandmadeCorpus
from tests.hub.server import Fault, Hub

if TYPE_CHECKING:
    from tests.hub.conftest import MakeCorpus

DTYPES: dict[Any, str] = {str: "string", int: "int64", float: "float64"}
STRUCT = {field.name: Value(DTYPES[field.type]) for field in fields(SampleMetadata)}
CONFIGS = {"default": ("disc", "plate"), "parts.disc": ("disc",), "parts.plate": ("plate",)}


def samples_of(corpus: HandmadeCorpus, categories: tuple[str, ...]) -> list[Any]:
    shards = [shard for shard in corpus.plan if shard.category in categories]
    return [sample for shard in shards for sample in corpus.samples(shard)]


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_datasets_loads_every_config_in_both_ways(
    hub: Hub, make_corpus: MakeCorpus, name: str, tmp_path: Path, image_format: str
) -> None:
    corpus = make_corpus(image_format=image_format)
    push_to_hub(corpus.folder, name)
    keys = {"__key__": Value("string"), "__url__": Value("string")}
    declared = Features({image_format: Image(), "json": STRUCT, **keys})
    for config, categories in CONFIGS.items():
        made = samples_of(corpus, categories)
        for streaming in (False, True):
            cache = str(tmp_path / "cache")
            loaded: Any = load_dataset(
                name, config, split="train", streaming=streaming, cache_dir=cache
            )
            assert loaded.features == declared
            samples = list(loaded)
            assert [one["json"] for one in samples] == [asdict(metadata) for metadata, _ in made]
            for one, (_, image) in zip(samples, made, strict=True):
                pixels = np.asarray(one[image_format].convert("L"))
                assert np.array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize("scheme", ["hf", "http"])
def test_webdataset_streams_it(hub: Hub, corpus: HandmadeCorpus, name: str, scheme: str) -> None:
    push_to_hub(corpus.folder, name)
    base = f"hf://datasets/{name}/"
    if scheme == "http":
        base = f"{hub.url}/datasets/{name}/resolve/main/"
    shards = base + "data/parts/disc/train-{00000..00001}-of-00002.tar"
    read = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pill"))
    made = samples_of(corpus, ("disc",))
    assert [one["json"] for one in read] == [asdict(metadata) for metadata, _ in made]
    assert all(
        np.array_equal(np.asarray(one["png"]), np.asarray(image))
        for one, (_, image) in zip(read, made, strict=True)
    )


def test_detector_is_fitted_to_the_published_corpus_as_to_the_one_on_disk(
    hub: Hub, make_corpus: MakeCorpus, name: str, recipe: Recipe, photographs: Path, tmp_path: Path
) -> None:
    corpus = make_corpus().folder
    push_to_hub(corpus, name)
    places = {"there": location(f"hf://datasets/{name}"), "here": corpus}
    for out, place in places.items():
        runtime = Runtime("fp32", "cpu")
        fit_realnet(recipe, ["disc"], photographs, place, tmp_path / out, runtime)
    weights = [load_file(tmp_path / out / "disc/model.safetensors") for out in places]
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET .*tar", after=5000),
        Fault("GET .*tar", status=500),
        Fault("GET .*tar", status=429, headers=(("Retry-After", "1"),)),
    ],
    ids=["dropped", "500", "429"],
)
def test_reading_survives_what_happens_to_a_connection(
    hub: Hub, corpus: HandmadeCorpus, name: str, fault: Fault
) -> None:
    push_to_hub(corpus.folder, name)
    hub.faults.append(fault)
    reader = SampleReader(location(f"hf://datasets/{name}"), "parts", "disc")
    keys = [reader[number][0]["key"] for number in range(5)]
    assert fault.times == 0
    assert keys == [metadata.key for metadata, _ in samples_of(corpus, ("disc",))]


def test_each_sample_is_one_request(hub: Hub, corpus: HandmadeCorpus, name: str) -> None:
    push_to_hub(corpus.folder, name)
    reader = SampleReader(location(f"hf://datasets/{name}"), "parts", "disc")
    hub.requests.clear()
    for number in (4, 0, 1, 1):
        reader[number]
    assert len(hub.requests) == 4
    assert all(request.startswith("GET") for request in hub.requests)


def test_shard_that_is_not_for_reading_is_not_called_damaged(
    hub: Hub, corpus: HandmadeCorpus, name: str
) -> None:
    push_to_hub(corpus.folder, name)
    hub.faults.append(Fault("GET .*tar", status=403, times=99))
    reader = SampleReader(location(f"hf://datasets/{name}"), "parts", "disc")
    with pytest.raises(CorpusError, match=r"cannot read the shard hf://.*403"):
        reader[0]


def test_pipeline_comes_back_the_same(hub: Hub, pipeline_folder: Path, name: str) -> None:
    push_to_hub(pipeline_folder, name)
    here = SDASPipeline.from_pretrained(pipeline_folder)
    there = SDASPipeline.from_pretrained(name)
    assert isinstance(there.scheduler, PerturbedDDPMScheduler)
    images = [
        pipeline(
            num_images=2,
            strength=[0.0, 0.5],
            num_inference_steps=3,
            generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
            output_type="pt",
        ).images
        for pipeline in (here, there)
    ]
    assert torch.equal(*images)
    asked = [request for request in hub.requests if "/resolve/" in request]
    assert not any(request.endswith((".py", "README.md", "samples.png")) for request in asked)


def test_pipeline_comes_from_a_branch(hub: Hub, pipeline_folder: Path, name: str) -> None:
    push_to_hub(pipeline_folder, name, revision="v2")
    with pytest.raises(ModelError, match="there is no diffusion model in"):
        SDASPipeline.from_pretrained(name)
    assert SDASPipeline.from_pretrained(name, revision="v2").unet.config.sample_size == 32


def test_detector_comes_back_the_same(hub: Hub, realnet_folder: Path, name: str) -> None:
    push_to_hub(realnet_folder, name)
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        here, there = (
            RealNet.from_pretrained(place).eval()(images) for place in (realnet_folder, name)
        )
    assert torch.equal(here.anomaly_map, there.anomaly_map)


def test_detector_pushes_itself(hub: Hub, realnet_folder: Path, name: str) -> None:
    model = RealNet.from_pretrained(realnet_folder)
    model.push_to_hub(name)
    there = RealNet.from_pretrained(name).state_dict()
    assert all(torch.equal(there[key], value) for key, value in model.state_dict().items())


def test_corpus_without_its_records_is_read(corpus: HandmadeCorpus) -> None:
    shutil.rmtree(corpus.folder / ".records")
    assert SampleReader(corpus.folder, "parts", "disc")[4][0]["index"] == 4


def test_nothing_is_made_on_the_hub(hub: Hub, name: str) -> None:
    with pytest.raises(OutputError, match="push-to-hub"):
        prepare_output(location(f"hf://datasets/{name}"))
