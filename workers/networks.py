"""The three networks on ONNX Runtime; the only file that knows it. A classifier may also answer from elsewhere.

Open them in the process that uses them: neither sessions nor CUDA survive a fork.
N: batch, D: latent size, K: classes, C: channels, S: the side of the square images.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Literal, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.aim import read
from models.bundle import Bundle
from models.errors import BundleDamaged, BundleForeign, BundleNotFound, ClassifierMisfit
from models.manifest import Aim, Checks, ClassifierManifest, Gate, SpaceManifest
from models.pixels import to_float
from models.reading import Ask, Port, Reading, allows_shape
from models.traversal import Latent, load_directions
from workers.endpoints import Endpoints
from workers.errors import DeviceUnavailable, Internal, OutOfMemory
from workers.heatmaps import Head
from workers.remote import RemoteClassifier, connect

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Device = Literal["cpu", "cuda"]
Shape = tuple[int | None, ...]
Look = Callable[[NDArray[Any]], tuple[NDArray[Any], F32]]
"""What f takes -> what it gives, and its feature maps [N, c, h, w]."""

PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(uint8)": "uint8"}
UNREADABLE = (
    ort_errors.Fail,
    ort_errors.InvalidProtobuf,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
SECOND_OPINION = "second_opinion.onnx"
OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "ALLOC_FAILED")


class Networks:
    """Encoder, generator and classifier with all that an explanation needs of them: a `workers.explain.Model`.

    Attributes:
        offline: how a remote f is asked, see `RemoteClassifier`; training's networks set it.
    """

    offline: ClassVar[bool] = False

    def __init__(
        self,
        space: Bundle[SpaceManifest],
        classifier: Bundle[ClassifierManifest],
        device: Device,
        threads: int,
        endpoints: Endpoints,
        beside: "Networks | None" = None,
    ) -> None:
        self.space, self.classifier = space, classifier
        self.image = space.manifest.image
        self.threads = threads
        """How many a network call, or whatever else can be shared out, may use."""
        self.runtime = f"onnxruntime {ort.__version__} / {PROVIDERS[device]}"

        d, manifest = space.manifest.latent_size, classifier.manifest
        x: Shape = (None, self.image.channels, self.image.size_px, self.image.size_px)
        self.latent = Latent.from_npz(space.arrays("latent.npz"))
        self.directions = load_directions(classifier.arrays("direction.npz"), classifier.manifest.walk)
        self._check_sizes()
        self._reading = Reading(self.image, manifest.input, manifest.output, len(manifest.classes))
        self.head: Head | None = _head(classifier)
        """What f makes of its feature map; None where f cannot be looked into."""
        self.remote: RemoteClassifier | None = None
        """Where f is, when it is not in the bundle."""
        self._proven_version: str | None = None
        self._ask, self._look = self._open_classifier(device, threads, endpoints)
        self._encoder: Callable[[NDArray[Any]], F32]
        self._generator: Callable[[NDArray[Any]], F32]
        self._gate: Callable[[NDArray[Any]], F32] | None = None
        self._second_opinion: Callable[[NDArray[Any]], F32] | None = None
        if beside is not None and beside.space.sha256 == space.sha256:
            self._encoder, self._generator, self._gate = beside._encoder, beside._generator, beside._gate
        else:
            self._encoder = _network(space, "encoder.onnx", ("x", x), ("w", (None, d)), device, threads)
            self._generator = _network(space, "generator.onnx", ("w", (None, d)), ("x", x), device, threads)
            if self.gate is not None:
                self._gate = _network(space, "gate.onnx", ("x", x), ("seen", (None, 2)), device, threads)
        if SECOND_OPINION in classifier.manifest.files:
            answers: Shape = (None, len(manifest.classes))
            self._second_opinion = _network(
                classifier, SECOND_OPINION, ("x", x), ("probabilities", answers), device, threads
            )

    @classmethod
    def open(
        cls,
        space: Bundle[SpaceManifest],
        classifier: Bundle[ClassifierManifest],
        device: Device = "cpu",
        threads: int = 0,
        endpoints: Endpoints | None = None,
        beside: "Networks | None" = None,
    ) -> Self:
        """Load the networks of a classifier and of the space its directions were fitted in.

        Args:
            space: verified, as a store opens it.
            classifier: verified, as a store opens it.
            device: where to compute; never replaced by another.
            threads: for one network call; 0 takes every core this process may use.
            endpoints: where classifiers answer that are not in their bundle; none by default.
            beside: networks that are loaded already, on the same device; if they are of the same space, its encoder
                and generator are shared.

        Raises:
            BundleForeign: the classifier's directions belong to another space.
            BundleDamaged: a network cannot be read, or has other inputs, outputs or sizes than the manifests say.
            DeviceUnavailable: the device cannot be used here, or two ONNX Runtimes are installed over each other.
            ClassifierUnreachable: the classifier is not in its bundle, and does not answer where it is.
            ClassifierMisfit: it takes or answers something else than the manifest declares.
        """
        wanted, given = classifier.manifest.space, space.manifest
        if (wanted.id, wanted.version) != (given.id, given.version):
            ids = f"{wanted.id}/{wanted.version}, not {given.id}/{given.version}"
            raise BundleForeign(f"{classifier.manifest.id} was fitted in space {ids}")
        _check_runtime(device)
        return cls(space, classifier, device, threads or _cores(), endpoints or Endpoints.none(), beside)

    def _open_classifier(self, device: Device, threads: int, endpoints: Endpoints) -> tuple[Ask, Look | None]:
        """f as a function of what it reads, and one that shows its feature map, where it has one."""
        if self.classifier.manifest.source.kind == "endpoint":
            source = self.classifier.manifest.source
            self.remote = connect(source, self._reading, endpoints, offline=self.offline)
            return self.remote, None
        return _classifier(self.classifier, self._reading, device, threads)

    def encode(self, x: F32) -> F32:
        """Images x float32 [N, C, S, S] in [-1, 1] -> latents float32 [N, D]."""
        return self._encoder(x)

    def synthesise(self, w: F32) -> F32:
        """Latents w float32 [N, D] -> images float32 [N, C, S, S], roughly in [-1, 1]; the same w, the same pixels."""
        return self._generator(w)

    def classify_all(self, x: F32) -> F64:
        """Images x float32 [N, C, S, S] in [-1, 1] -> probabilities of all classes, float64 [N, K].

        Raises:
            ClassifierUnreachable: f is remote and does not answer.
            ClassifierMisfit: f answers something else than its manifest declares, or the server has replaced it by a
                version whose golden answers are others.
        """
        p = self._reading.ask(self._ask, x)
        if self._proven_version is not None and self.remote and self.remote.model_version != self._proven_version:
            self._replay_classifier()
        return p

    def examine(self, x: F32) -> tuple[F64, F32]:
        """Answer as `classify_all` does, and show what f saw, out of one pass.

        Args:
            x: images float32 [N, C, S, S] in [-1, 1].

        Returns:
            Probabilities float64 [N, K], and f's feature maps float32 [N, c, h, w].

        Raises:
            Internal: f cannot be looked into: `head` is None.
        """
        look, seen = self._look, list[F32]()
        if look is None:
            raise Internal(f"{self.classifier.manifest.id} has no feature map")

        def ask(batch: NDArray[Any]) -> NDArray[Any]:
            answer, features = look(batch)
            seen.append(features)
            return answer

        return self._reading.ask(ask, x), np.concatenate(seen)

    @property
    def reading(self) -> Reading:
        """What f is given for an image of the space, and how its answer is read."""
        return self._reading

    def aim(self, direction: str) -> Aim:
        """What a direction is to change."""
        return self.classifier.manifest.aim(direction)

    def classify(self, x: F32, direction: str = "main") -> F64:
        """Images x float32 [N, C, S, S] in [-1, 1] -> the number that the direction is to change, float64 [N]."""
        return read(self.aim(direction), self.classify_all(x))

    @property
    def gate(self) -> Gate | None:
        """How the space weighs what `look` says; None in a space without one."""
        return self.space.manifest.gate

    @property
    def checks(self) -> Checks | None:
        """What is demanded of the classifier's explanations; None where nothing was fitted."""
        return self.classifier.manifest.checks

    def look(self, x: F32) -> F32:
        """Images x float32 [N, C, S, S] in [-1, 1] -> what gate.onnx sees in them, float32 [N, 2] (`models.gate`).

        Raises:
            BundleNotFound: the space has no gate.
        """
        if self._gate is None:
            raise BundleNotFound(f"{self.space.manifest.id}/{self.space.manifest.version} has no gate")
        return self._gate(x)

    def second_opinion(self, x: F32, direction: str = "main") -> F64 | None:
        """What a classifier that was trained apart from f says, in the form of `classify`; None where there is none."""
        return None if self._second_opinion is None else read(self.aim(direction), self._second_opinion(x))

    def replay_golden(self) -> None:
        """Compute the recorded pairs of both bundles again, and let gate and second opinion answer about their images.

        Of these two nothing is recorded: they are to run, and to answer with finite numbers.

        Raises:
            BundleDamaged: an answer differs from the recorded one by more than the manifest tolerates, or is none.
            ClassifierMisfit: the same, of a classifier that is remote.
        """
        spread = np.sqrt(np.diagonal(self.space.arrays("latent.npz")["covariance"]))
        golden, tolerance = self.space.arrays("golden.npz"), self.space.manifest.golden_tolerance
        _replay("generator", golden, "w", self.synthesise, "x", tolerance)
        _replay("encoder", golden, "images", lambda u: self.encode(to_float(u)), "encoded", tolerance, spread)
        self._replay_classifier()
        self._try_the_others(to_float(self.classifier.arrays("golden.npz")["images"]))

    def _try_the_others(self, x: F32) -> None:
        """Ask the networks that have no golden answers about golden images, so that one that fails does so now."""
        for name, network in (("gate.onnx", self._gate), (SECOND_OPINION, self._second_opinion)):
            if network is None:
                continue
            try:
                network(x)
            except (Internal, ort_errors.InvalidArgument, *UNREADABLE) as error:
                raise BundleDamaged(f"{name} does not answer about the golden images: {error}") from error

    def _replay_classifier(self) -> None:
        golden, tolerance = self.classifier.arrays("golden.npz"), self.classifier.manifest.golden_tolerance

        def ask(images: NDArray[np.uint8]) -> F64:
            return self._reading.ask(self._ask, to_float(images))

        try:
            _replay("classifier", golden, "images", ask, "probabilities", tolerance)
        except BundleDamaged as error:
            if self.remote is None:
                raise
            raise ClassifierMisfit(f"another model answers than the one that was measured: {error}") from error
        if self.remote is not None:
            self._proven_version = self.remote.model_version

    def _check_sizes(self) -> None:
        size, manifest = self.space.manifest.latent_size, self.classifier.manifest
        if set(self.directions) != set(manifest.directions):
            raise BundleDamaged(f"direction.npz holds {sorted(self.directions)}, not {sorted(manifest.directions)}")
        sizes = {self.latent.mean.size, *(direction.alpha.size for direction in self.directions.values())}
        if sizes != {size}:
            raise BundleDamaged(f"latents have {size} numbers, but latent.npz and direction.npz hold {sorted(sizes)}")


def _cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_runtime(device: Device) -> None:
    installed = [name for name in RUNTIMES if _is_installed(name)]
    if len(installed) > 1:
        raise DeviceUnavailable(f"{' and '.join(installed)} are installed over each other; keep one of them")
    if device == "cuda":
        if PROVIDERS[device] not in ort.get_available_providers():
            raise DeviceUnavailable(f"{installed[0]} has no CUDA; install onnxruntime-gpu")
        ort.preload_dlls()


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _network(
    bundle: Bundle[Any], name: str, source: tuple[str, Shape], result: tuple[str, Shape], device: Device, threads: int
) -> Callable[[NDArray[Any]], F32]:
    """Open one network, check its input and output, and return it as a function of one array."""
    session = _session(bundle, name, device, threads)
    for kind, found, (wanted, shape) in (
        ("input", session.get_inputs(), source),
        ("output", session.get_outputs(), result),
    ):
        if [port.name for port in found] != [wanted] or not allows_shape(found[0].shape, shape):
            described = ", ".join(f"{port.name} {port.shape}" for port in found)
            raise BundleDamaged(f"{name}: its {kind} is {described}, not {wanted} {shape}")

    def call(batch: NDArray[Any]) -> F32:
        answer = _run(session, [result[0]], {source[0]: np.ascontiguousarray(batch, np.float32)})[0]
        if not np.isfinite(answer).all():
            raise Internal(f"{name} answered with values that are not finite")
        return np.asarray(answer, np.float32)

    return call


def _classifier(
    bundle: Bundle[ClassifierManifest], reading: Reading, device: Device, threads: int
) -> tuple[Ask, Look | None]:
    """The bundle's own classifier as a function of what it is declared to read, and one that shows its feature map."""
    session = _session(bundle, "classifier.onnx", device, threads)
    try:
        reading.check(*(_ports(group) for group in (session.get_inputs(), session.get_outputs())))
    except ClassifierMisfit as error:
        raise BundleDamaged(f"classifier.onnx: {error}") from error
    source, result = reading.input.tensor, reading.output.tensor

    def ask(batch: NDArray[Any]) -> NDArray[Any]:
        return _run(session, [result], {source: batch})[0]

    seen = bundle.manifest.feature_map
    if seen is None:
        return ask, None
    if seen.tensor not in {port.name for port in session.get_outputs()}:
        raise BundleDamaged(f"classifier.onnx does not give its feature map {seen.tensor}")

    def look(batch: NDArray[Any]) -> tuple[NDArray[Any], F32]:
        answer, features = _run(session, [result, seen.tensor], {source: batch})
        return answer, np.asarray(features if seen.layout == "NCHW" else features.transpose(0, 3, 1, 2), np.float32)

    return ask, look


def _head(bundle: Bundle[ClassifierManifest]) -> Head | None:
    """head.npz, where the manifest names a feature map."""
    if bundle.manifest.feature_map is None:
        return None
    if "head.npz" not in bundle.manifest.files:
        raise BundleDamaged("the manifest names a feature map, but there is no head.npz")
    arrays, classes = bundle.arrays("head.npz"), len(bundle.manifest.classes)
    weight, bias = (np.asarray(arrays.get(name, np.nan), np.float64) for name in ("weight", "bias"))
    if weight.ndim != 2 or len(weight) != classes or bias.shape != (classes,):
        raise BundleDamaged(f"head.npz must hold weight [{classes}, c] and bias [{classes}]")
    return Head(weight, bias)


def _run(session: ort.InferenceSession, results: list[str], sources: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Some answers of a session; memory that cannot be had is named as such."""
    with _naming_lack_of_memory():
        return [np.asarray(answer) for answer in session.run(results, sources)]


@contextmanager
def _naming_lack_of_memory() -> Iterator[None]:
    """Tells failures of the runtime that are about memory apart by their words; they have no class of their own."""
    try:
        yield
    except UNREADABLE as error:
        if any(words in str(error) for words in OUT_OF_MEMORY):
            raise OutOfMemory from error
        raise


def _ports(found: list[Any]) -> list[Port]:
    return [Port(port.name, TYPES.get(port.type, port.type), port.shape) for port in found]


def session_options(threads: int) -> ort.SessionOptions:
    """How every network is run: all optimisations, so that weights stored in 8 bits are expanded once, at loading.

    A network's threads sleep while they have nothing to do. By default they spin, and those of the network that ran
    last keep the cores from the one that runs now: on two cores an explanation took 1.4 times as long.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return options


def _session(bundle: Bundle[Any], name: str, device: Device, threads: int) -> ort.InferenceSession:
    options = session_options(threads)
    # The last provider is for the few operators that CUDA does not have; the first must be the one asked for.
    providers = list(dict.fromkeys((PROVIDERS[device], PROVIDERS["cpu"])))
    try:
        with _naming_lack_of_memory():
            session = ort.InferenceSession(bundle.file(name), options, providers=providers)
    except UNREADABLE as error:
        raise BundleDamaged(f"{name} cannot be loaded: {error}") from error
    if session.get_providers()[0] != PROVIDERS[device]:
        raise DeviceUnavailable(f"{name} would run on {session.get_providers()[0]}, not on {PROVIDERS[device]}")
    return session


def _replay(
    network: str,
    golden: dict[str, NDArray[Any]],
    source: str,
    call: Callable[[NDArray[Any]], NDArray[Any]],
    result: str,
    tolerance: float,
    unit: NDArray[Any] | float = 1.0,
) -> None:
    """Compare a network's answer with the recorded one; differences are counted in `unit`."""
    if missing := {source, result} - set(golden):
        raise BundleDamaged(f"golden.npz of the {network} lacks {', '.join(sorted(missing))}")
    try:
        difference = float(np.max(np.abs(call(golden[source]) - golden[result]) / unit))
    except (ort_errors.InvalidArgument, ValueError) as error:
        raise BundleDamaged(f"golden.npz does not fit the {network}: {error}") from error
    if not difference <= tolerance:
        raise BundleDamaged(f"the {network} differs from its golden answers by {difference:.3g} > {tolerance:.3g}")
