"""Makes the weights of the small world: `python -m dillema.mini.train [--folder FOLDER] [--target FOLDER] [MODEL ...]`."""

import argparse
import logging
from pathlib import Path

from diffusers import AutoencoderKL

from ..scene import Appearance
from . import autoencoder, captioner, diffusion, recognisers
from .world import World, load_world

MODELS = ("autoencoder", "generator", "captioner", "segmenter", "judge", "classifier", "reader")
CLEAR_DAY = Appearance("clear", "daytime", "")


def main() -> None:
    """Trains the models named (all by default), going on from the checkpoints that an earlier call left."""
    parser = argparse.ArgumentParser(prog="python -m dillema.mini.train", description=__doc__)
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], default=list(MODELS), metavar="MODEL", help=f"what to train, of {', '.join(MODELS)}")
    parser.add_argument("--folder", type=Path, default=Path("outputs/training"), help="renders, checkpoints and cached latents (about 4 GB)")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent.parent / "weights", help="where the weights go")
    parser.add_argument("--steps", type=int, help="steps of each model, for a trial; each recipe knows how many it needs")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder, target, steps = args.folder, args.target, {"steps": args.steps} if args.steps else {}
    folder.mkdir(parents=True, exist_ok=True)

    def everything() -> list[World]:
        return [load_world(folder, "train", "street", 12000), load_world(folder, "train", "vehicle", 5000)]

    vae = folder / "vae"
    for model in args.models:
        if model == "autoencoder":
            autoencoder.train(everything(), folder, **steps).save_pretrained(vae)
        elif model == "generator":
            diffusion.train(AutoencoderKL.from_pretrained(vae), everything(), folder, target / model, **steps)
        elif model == "captioner":
            captioner.train(everything(), folder, target / model, **steps)
        elif model == "segmenter":
            clear = [load_world(folder, "train", "street", 4000, CLEAR_DAY)]
            recognisers.train_segmenter(model, recognisers.segformer, clear, folder, target / model, **steps)
        elif model == "judge":
            recognisers.train_segmenter(model, recognisers.upernet, everything(), folder, target / model, **steps)
        elif model == "classifier":
            clear = [load_world(folder, "train", "vehicle", 4000, CLEAR_DAY)]
            recognisers.train_classifier(model, recognisers.KIND, clear, folder, target / model, **steps)
        elif model == "reader":
            recognisers.train_classifier(model, recognisers.ATTRIBUTES, everything(), folder, target / model, **steps)


if __name__ == "__main__":
    main()
