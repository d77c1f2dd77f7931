"""Distillation: a model with shorter vectors that gives public histories the scores of the model which it is made of.

The teacher is a released model, and the histories are generated: tastes are drawn around random items, weighted by the
released popularity. So nothing private enters, and no budget is spent. The student keeps the teacher's solver. It
starts from a projection, and then two exact steps alternate: solve the students' vectors of the histories, and solve
the item table by ridge regression on the teacher's scores. A score of the teacher is a product of two vectors, so the
sums over all pairs need only matrices of d x d. `spectral` has a closed form instead.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.als import ALSModel
from fedrec.algorithms.spectral import SpectralModel
from fedrec.algorithms.tower_model import TowerModel
from fedrec.compress.settings import Steps
from fedrec.data.histories import Histories
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.model import ReleasedModel

ITERATIONS = 3
SHORTEST, LONGEST = 5, 100
"""Events of a generated history."""
SHARPNESS = 4.0
"""How much more likely an item is that is like a history's first one: e to this times their cosine."""
_RIDGE = 1e-3


def distilled(teacher: ReleasedModel, steps: Steps) -> ReleasedModel:
    """Return the smaller model.

    Args:
        teacher: a released model.
        steps: `distil`, `histories` and `seed`.

    Raises:
        InputError: for a kind of model that cannot be distilled, or vectors that would not become shorter.
    """
    assert steps.distil is not None
    if isinstance(teacher, TowerModel) and teacher.solver.ratings:
        raise InputError("--distil: not for a model of ratings; use --int8, --int4 or --prune")
    if isinstance(teacher, TowerModel) and teacher.people is not None:
        raise InputError("--distil: not for a model with a network for people; use --int8, --int4 or --prune")
    if not isinstance(teacher, ALSModel | TowerModel | SpectralModel):
        raise InputError(
            f"--distil: '{teacher.called}' cannot be distilled, but als, fcf, tower-sgd and spectral; use --int8, "
            "--int4 or --prune"
        )
    long = (teacher.encode if isinstance(teacher, SpectralModel) else teacher.items).shape[1]
    if steps.distil >= long:
        raise InputError(f"--distil {steps.distil}: the vectors have {long} numbers already; choose fewer")
    people = public_histories(teacher, steps.histories, steps.seed)
    if isinstance(teacher, SpectralModel):
        return _spectral(teacher, people, steps.distil).by(teacher.made_by)
    return _fitted(teacher, people, steps.distil).by(teacher.made_by)


def public_histories(model: "ALSModel | TowerModel | SpectralModel", count: int, seed: int) -> UserBatch:
    """Draw histories from a released model alone."""
    nobody = Histories(np.zeros(2, np.int64), np.zeros(0, np.int32), _items(model)).batch(np.array([0]), 0)
    popular = model.score(model.fit(nobody))[0].double().numpy()
    rank = np.empty(len(popular))
    rank[np.argsort(-popular, kind="stable")] = np.arange(len(popular))
    weight = 1 / (rank + 10)
    rows = model.item_rows(torch.arange(len(popular)))
    assert rows is not None
    unit = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
    generator = np.random.default_rng(seed)
    first = generator.choice(len(popular), count, p=weight / weight.sum())
    lengths = np.exp(generator.uniform(np.log(SHORTEST), np.log(LONGEST), count)).astype(np.int64)
    parts = []
    for start, length in zip(first, np.minimum(lengths, len(popular) // 2), strict=True):
        likely = weight * np.exp(SHARPNESS * (unit @ unit[start]))
        keys = np.log(likely) + generator.gumbel(size=len(likely))  # the largest ones are a draw without replacement
        parts.append(np.argpartition(-keys, length - 1)[:length])
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in parts])]).astype(np.int64)
    people = Histories(offsets, np.concatenate(parts).astype(np.int32), len(popular))
    return people.batch(np.arange(count), seed).unordered()


def _items(model: "ALSModel | TowerModel | SpectralModel") -> int:
    found: Tensor = model.decode if isinstance(model, SpectralModel) else model.items
    return len(found)


def _fitted(teacher: "ALSModel | TowerModel", people: UserBatch, dim: int) -> ReleasedModel:
    table, vectors = teacher.items.double(), _vectors(teacher, people)
    both = vectors.T @ vectors / len(vectors) @ (table.T @ table / len(table))
    _, basis = torch.linalg.eigh(both + both.T)
    student_table = table @ basis[:, -dim:]
    make: Callable[[Tensor], ReleasedModel]
    if isinstance(teacher, ALSModel):
        settings = teacher.manifest()

        def make(items: Tensor) -> ReleasedModel:
            found = items.float()
            return ALSModel(found, found.T @ found, teacher.popularity, **settings)
    else:

        def make(items: Tensor) -> ReleasedModel:
            return TowerModel(items.float(), teacher.bias, teacher.solver)

    for _ in range(ITERATIONS):
        own = _vectors(make(student_table), people)
        normal = own.T @ own
        ridge = _RIDGE * normal.trace() / dim
        normal.diagonal().add_(ridge)
        student_table = torch.linalg.solve(normal, own.T @ vectors @ table.T + ridge * student_table.T).T
    return make(student_table)


def _vectors(model: ReleasedModel, people: UserBatch) -> Tensor:
    found = model.precise.fit(people)["vector"]
    return found.double()


def _spectral(teacher: SpectralModel, people: UserBatch, dim: int) -> ReleasedModel:
    """The best approximation of the scores of the histories' profiles: of A^(1/2) B^(1/2), with the second moments A
    of the profiles and B of the decoder."""
    profiles = teacher.precise.fit(people)["profile"].double()
    encode, decode = teacher.encode.double(), teacher.decode.double()
    root, inverse = _root(profiles.T @ profiles / len(profiles))
    other, other_inverse = _root(decode.T @ decode / len(decode))
    left, sizes, right = torch.linalg.svd(root @ other)
    half = sizes[:dim].sqrt()
    short = encode @ inverse @ left[:, :dim] * half
    return SpectralModel(short.float(), (decode @ other_inverse @ right[:dim].T * half).float(), teacher.popularity)


def _root(moment: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of a positive matrix, and its inverse on the directions that have any weight."""
    values, basis = torch.linalg.eigh(moment)
    sizes = values.clamp(min=0).sqrt()
    inverse = torch.where(sizes > 1e-9 * sizes.max(), 1 / sizes.clamp(min=1e-300), 0.0)
    return basis * sizes @ basis.T, basis * inverse @ basis.T
