"""The commands ``tinydiff export`` and ``tinydiff import``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tinydiff import backends, terminal
from tinydiff.data import NAMES
from tinydiff.interop import onnx, pipeline, web
from tinydiff.interop.autoencoder import checkpoint_of, export_autoencoder, import_autoencoder, is_autoencoder
from tinydiff.interop.folder import NULL_LABELS, POSITIONS, UNET, VAE, export_folder, import_folder
from tinydiff.interop.student import at_guidance
from tinydiff.samplers import SAMPLERS
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.config import TrainConfig
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.folder import RunFolder
from tinydiff.train.run_config import RunConfig
from tinydiff.train.texts import encoder_of_run
from tinydiff.train.vae_config import VAETrainConfig


def add_export_arguments(parser):
    """The arguments of ``export``."""
    parser.description = (
        "Write a folder that UNet2DModel.from_pretrained(DIR) of diffusers loads, of an autoencoder AutoencoderKL, of a run "
        "in latents both, of one with CLIP's texts StableDiffusionPipeline; or an ONNX file, the network or the training "
        "step that any ONNX runtime takes; or a folder of programs for a web page."
    )
    parser.add_argument("checkpoint", help="a checkpoint, or the folder of a run")
    parser.add_argument(
        "output", metavar="PATH", help="the folder to write, new or empty; of onnx a new file, NAME.onnx"
    )
    parser.add_argument("--format", choices=FORMATS, default="diffusers", help="default %(default)s")
    parser.add_argument("--weights", choices=("average", "model"), help="averaged or last parameters (default average)")
    parser.add_argument("--what", choices=onnx.WHATS, help="of onnx: the network (the default), or the training step")
    parser.add_argument(
        "--guidance",
        type=float,
        help="of diffusers: with which a student is to draw there, once and for all (default 2)",
    )
    page = parser.add_argument_group("with --format web")
    page.add_argument("--count", type=int, help="images at a time (default 1)")
    page.add_argument(
        "--sampler", choices=SAMPLERS, nargs="+", help="those that can be chosen (default ddim, or a student's)"
    )
    page.add_argument(
        "--steps", type=int, nargs="+", help="numbers of steps that can be chosen (default 25, or a student's)"
    )
    page.add_argument("--precision", choices=web.PRECISIONS, help="of the weights in the file (default fp32)")
    page.add_argument("--train", type=int, metavar="IMAGES", help="a training step too, on so many images of the page")


def run_export(args):
    """Write a checkpoint in another format."""
    for name, of in {
        "what": "onnx",
        "guidance": "diffusers",
        **dict.fromkeys(("count", "sampler", "steps", "precision", "train"), "web"),
    }.items():
        if getattr(args, name) is not None and args.format != of:
            raise ValueError(f"{name} goes with --format {of}")
    FORMATS[args.format](args)


def _load(path, kind=RunConfig):
    """A checkpoint that can be written in any format. Raises ``ValueError`` for one that looks at texts."""
    checkpoint = checkpoints.load(path, kind)
    if checkpoint.config.text:
        raise ValueError(f"{path} looks at texts: such models are written with --format diffusers alone")
    return checkpoint


def _export_diffusers(args):
    checkpoint = checkpoints.load(args.checkpoint, RunConfig, lazily=True)
    config, part = checkpoint.config, args.weights or "average"
    written, without = terminal.one_line(args.output), "without the optimizer's state"
    if isinstance(config, VAETrainConfig):
        export_autoencoder(config.model, checkpoint.parts[part], args.output, scale=checkpoint.scale)
        print(f"wrote {written}: the parameters and the scale of latents, {without}")
        return
    if isinstance(config, DistillConfig):
        guidance = config.guidance_told(args.guidance)
        checkpoint = at_guidance(checkpoint, guidance)
    elif args.guidance is not None:
        raise ValueError("guidance goes with a student: any other model is guided as it draws")
    encoder = encoder_of_run(args.checkpoint, checkpoint, backends.get("numpy")) if config.text else None
    export_folder(checkpoint, args.output, part=part, encoder=encoder)
    print(f"wrote {written}: the parameters and the noise schedule, {without}")
    if checkpoint.autoencoder:
        print(f"it draws latents: it is in the folder {UNET}, and what makes images of them in {VAE}")
    if encoder and pipeline.is_stable_diffusion(checkpoint, encoder):
        print(f"StableDiffusionPipeline.from_pretrained loads it: its texts are read by CLIP, in {pipeline.TEXT_ENCODER}")
    elif encoder:
        given = f"what {pipeline.TEXT_ENCODER} makes of a text as encoder_hidden_states, beside encoder_attention_mask"
        print(f"no pipeline of diffusers' has these parts: the U-Net is given {given}")
    if isinstance(config, DistillConfig):
        how = f"with guidance {guidance:g}, to be asked once a step" if config.model.guidance_width else "as it is"
        sampling = config.stage_at(checkpoint.step).sampling
        print(f"a student, {how}: it draws in {sampling['steps']} steps of {sampling['sampler']}")
    if config.model.positions:
        print(f"this U-Net is told where it is: diffusers' must be given the waves in {POSITIONS} as its last channels")


def _export_onnx(args):
    what = args.what or "predict"
    if what == "train" and args.weights:
        raise ValueError("weights goes with --what predict: a training step is given all of a checkpoint's")
    onnx.expect_writable(args.output)
    checkpoint = _load(args.checkpoint, TrainConfig)
    try:
        onnx.export_file(checkpoint, args.output, what=what, part=args.weights or "average")
    except ValueError as error:
        raise ValueError(f"{args.checkpoint}: {error}") from None
    if what == "train":
        state = "a checkpoint is its first state, tensor by tensor"
        print(f"wrote {terminal.one_line(args.output)}: the training step; {state}")
    else:
        config = checkpoint.config
        noise = f"schedule {config.schedule}, {config.noise_steps} noise steps"
        of = " of latents" if config.autoencoder else ""
        print(f"wrote {terminal.one_line(args.output)}: the network, which predicts {config.prediction}{of}; {noise}")


def _export_web(args):
    for name in ("count", "train"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(args, name)}")
    checkpoint = _load(args.checkpoint, TrainConfig)
    if args.train and isinstance(checkpoint.config, DistillConfig):
        raise ValueError("train does not go with a student: its training step asks another network, its teacher")
    said = web.export_folder(
        checkpoint,
        args.output,
        part=args.weights or "average",
        precision=args.precision or web.PRECISIONS[0],
        count=args.count or 1,
        ways=_ways(args, checkpoint),
        images=args.train or 0,
    )
    print(f"wrote {terminal.one_line(args.output)}: {said[0]}", *said[1:], sep="\n")


def _ways(args, checkpoint):
    """{sampler: numbers of steps} that a page is to have: those given, or as a student was taught, or ddim's 25."""
    config, taught = checkpoint.config, {"sampler": "ddim", "steps": 25}
    if isinstance(config, DistillConfig):
        taught = config.stage_at(checkpoint.step).sampling
    return {sampler: args.steps or [taught["steps"]] for sampler in args.sampler or [taught["sampler"]]}


FORMATS = {"diffusers": _export_diffusers, "onnx": _export_onnx, "web": _export_web}


def add_import_arguments(parser):
    """The arguments of ``import``."""
    parser.description = (
        "Read a folder of diffusers' (config.json, safetensors and, if there, scheduler_config.json) as a checkpoint."
    )
    parser.add_argument(
        "folder",
        metavar="DIR",
        help="the folder of a UNet2DModel, of a pipeline with one or of Stable Diffusion, or of an AutoencoderKL",
    )
    parser.add_argument(
        "--output",
        metavar="CHECKPOINT",
        help="the file to write (default runs/NAME/checkpoints/step-0000000.safetensors)",
    )
    parser.add_argument(
        "--null-label", choices=NULL_LABELS, help='whether the last class row stands for "no class" (default last)'
    )
    parser.add_argument("--schedule", help="noise schedule, such as linear or cosine (default: as the folder says)")
    parser.add_argument(
        "--noise-steps", type=int, metavar="T", help="number of noise steps (default: as the folder says)"
    )
    parser.add_argument("--prediction", help="what the network predicts: eps, x0 or v (default: as the folder says)")
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="of images, to train on others than the folder says"
    )
    parser.add_argument(
        "--data", choices=NAMES[1:], help="the data set that training would go on with (default: unknown)"
    )


def run_import(args):
    """Read a folder of another library as a checkpoint to draw from or to train further."""
    folder = Path(args.folder)
    if args.output:
        path = Path(args.output)
        if path.suffix != ".safetensors":
            raise ValueError(f"output must end in .safetensors, got {args.output}")
        if not path.parent.is_dir():
            raise ValueError(f"output: the folder {path.parent} does not exist")
    else:
        path = checkpoints.path_for(Path("runs") / folder.resolve().name / "checkpoints", 0)
    if path.exists() or (not args.output and path.parent.parent.exists()):
        raise ValueError(f"output {path if args.output else path.parent.parent} already exists")
    names = "schedule", "noise_steps", "prediction", "data", "null_label", "size"
    options = {name: getattr(args, name) for name in names}
    if is_autoencoder(folder):
        _import_autoencoder(folder, path, options)
        return
    checkpoint, assumed, passed_over, encoder = import_folder(folder, **options)
    _save(checkpoint, path, encoder)

    config = checkpoint.config
    noise = f"schedule {config.schedule}, {config.noise_steps} noise steps, prediction {config.prediction}"
    of = f"{config.model.classes} classes" if encoder is None else f"texts, in tokens of width {encoder.width}"
    print(f"wrote {terminal.one_line(path)}: U-Net {config.model.channels}, {of}, {noise}")
    for each in assumed:
        print(f"assumed: {each}")
    if passed_over:
        print(f"passed over: {terminal.one_line(', '.join(passed_over))}")
    print("the folder holds no optimizer state: training that goes on from it starts with a fresh one, at step 0")
    more = ["--guidance", "1"] if args.null_label == "none" else ["--prompt", "a cat"] if encoder else []
    print(f"to draw: {terminal.own_command('sample', path, *more)}")


def _import_autoencoder(folder, path, options):
    """The same of an autoencoder."""
    data = options.pop("data")
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} goes with a U-Net, and {folder} is of an autoencoder")
    checkpoint = checkpoint_of(import_autoencoder(folder))
    if data:
        checkpoint = checkpoint._replace(config=dataclasses.replace(checkpoint.config, data=data))
    _save(checkpoint, path)
    model = checkpoint.config.model
    shapes = f"images of {model.shape}, latents of {model.latent_shape}"
    print(f"wrote {terminal.one_line(path)}: autoencoder {model.channels}, {shapes}")
    print("the folder holds no optimizer state: training that goes on from it starts with a fresh one, at step 0")
    print(f"to train in its latents: {terminal.own_command('train', '--latent', path)}")


def _save(checkpoint, path, encoder=None):
    """Write a new checkpoint and, in the folder of what may become its run, its autoencoder and its text encoder."""
    run = RunFolder(checkpoints.run_folder(path.parent))
    kept = (run.autoencoder, "autoencoder", checkpoint.autoencoder), (run.text, "encoder", encoder)
    for place, whose, there in kept:
        if there and place.exists():
            raise ValueError(f"output: {place}, where its {whose} is to be, already exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    if checkpoint.autoencoder:
        checkpoints.save(run.autoencoder, checkpoint.autoencoder)
    if encoder:
        run.keep_encoder(encoder.files)
    checkpoints.save(path, checkpoint)
