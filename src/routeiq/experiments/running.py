"""Experiments as a worker runs them: an immutable compiled set that a change of control state replaces whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from hashlib import blake2b

from routeiq.config.experiments import SubjectKind
from routeiq.types import JsonObject, RoutingRequest
from routeiq.values import value

from .assignment import Chooser, Hash, subject_of
from .definitions import Definition
from .layers import Piece, allot, position
from .schedule import Schedule

_REMEMBERED = 4096


@value
class Arm:
    """A variant as it is served. `assigned` is what was drawn: another where a guard has stopped that one.

    `label` is the name under which it is counted.
    """

    experiment: str
    variant: str
    assigned: str
    strategy: str | None
    profile: str | None
    model: str | None
    label: str
    epoch: str

    @property
    def header(self) -> str:
        """For `x-routeiq-experiment`."""
        return f"{self.experiment}={self.variant}"


@value
class Assignment:
    """What a request gets. `unit` is the hash of its subject; `also` the experiments that it was kept out of."""

    arm: Arm
    kind: SubjectKind
    unit: int
    also: tuple[str, ...] = ()

    def record(self) -> JsonObject:
        """For the decision record; `label` is what `Experiments.rated` wants back."""
        arm = self.arm
        found: JsonObject = {
            "experiment": arm.experiment,
            "variant": arm.variant,
            "label": arm.label,
            "subject": self.kind,
        }
        if self.also:
            found["also"] = list(self.also)
        return found


def epoch_of(definition: Definition) -> str:
    """A short name for the shares in force since the last reset: draws under other shares are not to be mixed."""
    weights = {name: one.weight for name, one in definition.experiment.variants.items()}
    total = sum(weights.values())
    text = "\0".join(f"{n}\0{w / total:.9f}" for n, w in sorted(weights.items()) if w)
    return f"{definition.resets}-{blake2b(text.encode(), digest_size=4).hexdigest()}"


class Running:
    """One experiment, compiled."""

    __slots__ = (
        "_arms",
        "_choose",
        "_draw",
        "_globs",
        "_kinds",
        "_own_profile",
        "_pieces",
        "_share",
        "_whole",
        "name",
        "order",
        "shadow",
    )

    def __init__(self, definition: Definition, pieces: list[Piece] | None) -> None:
        experiment = definition.experiment
        schedule = Schedule(experiment)
        salt = experiment.salt or definition.name
        weights = {name: one.weight for name, one in experiment.variants.items()}
        self.name = definition.name
        self.order = (schedule.start, definition.name)
        self.shadow = experiment.mode == "shadow"
        self._kinds = experiment.subject
        self._share = schedule.share
        self._globs = experiment.models
        self._pieces = pieces or [(0.0, 1.0, 0.0)]
        self._whole = pieces is None and experiment.traffic == 1.0 and experiment.ramp is None
        # One layer, one hash: that makes its pieces disjoint. Without a layer all draws are independent.
        self._draw = Hash("layer", experiment.layer) if experiment.layer else Hash("traffic", salt)
        self._choose = Chooser(salt, weights)
        # A caller that names a profile wants that one.
        self._own_profile = any(one.profile for one in experiment.variants.values())
        epoch = epoch_of(definition)
        self._arms = {name: _arm(definition, name, epoch) for name in weights}

    def matches(self, model: str) -> bool:
        """Whether requests for this model take part."""
        return any(fnmatchcase(model, glob) for glob in self._globs)

    def subject(
        self,
        request: RoutingRequest,
        now: float,
        key_id: str | None,
        user: str | None,
        team: str | None,
    ) -> tuple[SubjectKind, bytes] | None:
        """The request's subject if it takes part now."""
        share = self._share(now)
        if share <= 0.0 or (self._own_profile and request.profile is not None):
            return None
        found = subject_of(self._kinds, request, key_id, user, team)
        if found is None:
            return None
        subject = f"{found[0]}\0{found[1]}".encode("utf-8", "surrogatepass")
        if not self._whole and position(self._pieces, self._draw.fraction(subject)) >= share:
            return None
        return found[0], subject

    def assign(self, kind: SubjectKind, subject: bytes, also: tuple[str, ...]) -> Assignment:
        """The variant of a subject that takes part."""
        arm = self._arms[self._choose(subject)]
        return Assignment(arm=arm, kind=kind, unit=hash(subject), also=also)

    def arms(self) -> Iterable[Arm]:
        """Every variant that changes something: what a shadow experiment decides."""
        return [a for a in self._arms.values() if (a.strategy or a.profile or a.model) is not None]


def _arm(definition: Definition, name: str, epoch: str) -> Arm:
    experiment = definition.experiment
    stopped = name in definition.stopped and name != experiment.control
    served = experiment.control if stopped else name
    variant = experiment.variants[served]
    return Arm(
        experiment=definition.name,
        variant=served,
        assigned=name,
        strategy=variant.strategy,
        profile=variant.profile,
        model=variant.model,
        label=f"{name}!" if stopped else name,
        epoch=epoch,
    )


class CompiledSet:
    """Every experiment that can be used, compiled. Never changes but for what it remembers."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        pieces, _ = allot({name: one.experiment for name, one in definitions.items()})
        every = [Running(one, pieces.get(name)) for name, one in definitions.items()]
        # The one that began first has precedence: a new experiment takes nobody from one that runs.
        self._every = sorted(every, key=lambda one: one.order)
        self.any_shadow = any(one.shadow for one in every)
        self.live: dict[str, list[Running]] = {}
        self._matched: dict[str, tuple[list[Running], list[Running]]] = {}
        self.definitions = dict(definitions)

    def match(self, model: str) -> tuple[list[Running], list[Running]]:
        """Live and shadow experiments in which requests for this model take part, in the order of precedence.

        What was found is remembered, and in `live`, where a request looks first.
        """
        found = self._matched.get(model)
        if found is None:
            mine = [one for one in self._every if one.matches(model)]
            found = [o for o in mine if not o.shadow], [o for o in mine if o.shadow]
            if len(self._matched) >= _REMEMBERED:  # model names are the client's to choose
                self._matched.clear()
                self.live.clear()
            self._matched[model] = found
            self.live[model] = found[0]
        return found
