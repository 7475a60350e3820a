"""The adjoint of Diff-In's recursion: one parameter-sized direction a checkpoint, shared by all samples.

    I^{t+1} = I^t - eta_t P_t (H_t I^t - G_z / N)

is linear in I, so <grad L_V(theta_T), I^T> = 1/N sum over segments of <r, G_z> with, backwards over a segment,
    u_start = exp(-S H P) u_end            S = sum of eta over a piece of the segment, H and P frozen in it
    r      += P phi_1(S H P) u_end         phi_1(S A) is here the integral of exp(-s A) ds from 0 to S
for one piece after another, each with the Hessian of a minibatch of its own, as training has one for each of its
steps. Frozen Hessians of one large batch follow training much less well (docs/method.md, section 8). exp and phi_1 act
on one vector each, so k Lanczos steps on P^1/2 H P^1/2 give them; its eigenvalues are clamped at 0.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffin.batch_loss import BatchLoss
from diffin.layout import dot, norm

LANCZOS_STEPS = 3
"""For each minibatch, where no tolerance is given (docs/method.md, section 8)."""


class NonFinite(ArithmeticError):
    """A vector on the way back through training is not finite: the training, or the trace of it, diverged.

    Attributes:
        segment: its position, counted from 0.
    """

    def __init__(self, what: str, segment: int | None = None) -> None:
        super().__init__(f"{what} is not finite")
        self.what, self.segment = what, segment


@dataclass(frozen=True)
class Segment:
    """A checkpoint and the training steps that it stands for: those since the checkpoint before it.

    Attributes:
        theta: (p,) parameters.
        lr_sum: S, sum of the learning rates of these steps.
        minibatches: losses of minibatches in the order of training; each stands for an equal share of lr_sum.
        preconditioner: (p,) P of the optimiser; 0 where training moves nothing; None for SGD.
    """

    theta: Tensor
    lr_sum: float
    minibatches: Sequence[BatchLoss]
    preconditioner: Tensor | None = None


@dataclass(frozen=True)
class Resolution:
    """How far the Lanczos steps of one segment resolve the actions of its exponentials.

    Attributes:
        steps: Hessian-vector products by minibatch, in the order of training.
        residual: the largest bound over the minibatches, relative to the adjoint that entered the minibatch.
        kept: |P^1/2 u_start| / |P^1/2 u_end|: the share of the adjoint that reaches the segment before.
    """

    steps: tuple[int, ...]
    residual: float
    kept: float


@dataclass(frozen=True)
class Krylov:
    """A symmetric matrix in a Krylov space: A is about Q^T T Q, T = W diag(values) W^T.

    Attributes:
        basis: Q (k, p), orthonormal rows; the first is the start, normalised.
        values, vectors: Ritz values (k,) and W (k, k), float64.
        rest: norm of what a further step would add to the space.
    """

    basis: Tensor
    values: Tensor
    vectors: Tensor
    rest: float

    def apply(self, function: Tensor, size: float) -> Tensor:
        """Return size * Q^T W diag(function) W^T e_1 (p,), given the function of the Ritz values (k,)."""
        return (self.vectors @ (function * (self.vectors[0] * size))).to(self.basis.dtype) @ self.basis

    def last(self, function: Tensor) -> float:
        """Return |e_k^T W diag(function) W^T e_1|."""
        return abs(float(self.vectors[-1] @ (function * self.vectors[0])))


def lanczos(
    matvec: Callable[[Tensor], Tensor],
    start: Tensor,
    steps: int,
    enough: Callable[[Krylov], bool] = lambda found: False,
) -> Krylov:
    """Return a symmetric matrix in the Krylov space of `start`.

    Fully reorthogonalised, twice. k is less than `steps` if the space is exhausted before, or is found to be enough.

    Raises:
        NonFinite: the start, or a product, is not finite.
    """
    if not math.isfinite(norm(start)):
        raise NonFinite("the adjoint")
    basis = start.new_empty(steps, len(start))
    basis[0] = start / norm(start)
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    while True:
        done = len(diagonal) + 1
        image = matvec(basis[done - 1])
        if not math.isfinite(norm(image)):
            raise NonFinite("a Hessian-vector product")
        diagonal.append(dot(image, basis[done - 1]))
        rest = _orthogonalise(image, basis[:done])
        left = rest.norm()
        found = Krylov(basis[:done], *_eigenpairs(diagonal, off_diagonal), float(left))
        if done == steps or left <= 1e-6 * image.norm() or enough(found):
            return found
        off_diagonal.append(left.double())
        basis[done] = rest / left


def _eigenpairs(diagonal: list[Tensor], off_diagonal: list[Tensor]) -> tuple[Tensor, Tensor]:
    matrix = torch.diag(torch.stack(diagonal))
    if off_diagonal:
        above = torch.diag(torch.stack(off_diagonal), 1)
        matrix = matrix + above + above.T
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def _orthogonalise(vector: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector


def segment_directions(
    segment: Segment,
    u_end: Tensor,
    steps: int = LANCZOS_STEPS,
    progress: Callable[[int], None] = lambda product: None,
    tolerance: float = 0.0,
) -> tuple[Tensor, Tensor, Resolution]:
    """Push the adjoint back over one segment: return r (p,) and u_start (p,), given u_end (p,), and how exact they are.

    Args:
        steps: Lanczos steps for each minibatch, at most.
        progress: called before each Hessian-vector product with its number.
        tolerance: residual at which the steps of a minibatch end.

    Cost: at most `steps` Hessian-vector products for each minibatch, and steps * p numbers of memory.
    """
    root = torch.ones_like(u_end) if segment.preconditioner is None else segment.preconditioner.sqrt()
    share = segment.lr_sum / len(segment.minibatches)
    products = itertools.count()
    y, r = root * u_end, torch.zeros_like(u_end)
    before, taken, residual = norm(y), [], 0.0
    for loss in reversed(segment.minibatches):

        def matvec(vector: Tensor, loss: BatchLoss = loss) -> Tensor:
            progress(next(products))
            return root * loss.hvp(segment.theta, root * vector)

        action = exp_and_phi(matvec, y, share, steps, tolerance)
        y = action.decayed
        r += action.integral
        taken.append(action.steps)
        residual = max(residual, action.residual)
    resolution = Resolution(tuple(taken[::-1]), residual, norm(y) / before if before else 1.0)
    return root * r, torch.where(root > 0, y / root, u_end), resolution


@dataclass(frozen=True)
class Action:
    """exp(-S A) y and its integral over S, phi_1(S A) y, (p,) each.

    Attributes:
        steps: products with A.
        residual: a bound on the error of either, relative to |y| and S |y|.
    """

    decayed: Tensor
    integral: Tensor
    steps: int
    residual: float


def exp_and_phi(
    matvec: Callable[[Tensor], Tensor], vector: Tensor, lr_sum: float, steps: int, tolerance: float = 0.0
) -> Action:
    """Return exp(-S A) y and phi_1(S A) y for a symmetric A whose negative eigenvalues are taken for 0.

    At most `steps` products, fewer if the residual is below the tolerance before. With T the projection of A and
    b = `rest`, the error e(s) obeys e' = -A e - b (e_k^T exp(-s T) e_1) q_{k+1} |y| and e(0) = 0. For A without
    negative eigenvalues |exp(-s A)| <= 1, and the entry's sign does not change with s, so that
    |e(S)| <= b |e_k^T phi_1(S T) e_1| |y|; the error of phi_1 is at most the integral of that bound. If A has negative
    eigenvalues, the residual is an estimate, made with their absolute values.
    """
    if not vector.any():
        return Action(vector, vector, 0, 0.0)
    size = norm(vector)
    found = lanczos(matvec, vector, steps, lambda space: _residual(space, lr_sum) < tolerance)
    scaled, phi = _phi(found.values, lr_sum)
    return Action(
        found.apply(torch.exp(-scaled), size),
        found.apply(phi, size),
        len(found.values),
        _residual(found, lr_sum),
    )


def _phi(values: Tensor, lr_sum: float) -> tuple[Tensor, Tensor]:
    """Return S lambda and the integral of exp(-s lambda) from 0 to S, with lambda clamped at 0."""
    scaled = values.clamp_min(0) * lr_sum
    small = scaled < 1e-9  # where (1 - exp(-x)) / x is 1
    return scaled, lr_sum * torch.where(small, torch.ones_like(scaled), -torch.expm1(-scaled) / scaled.clamp_min(1e-30))


def _residual(space: Krylov, lr_sum: float) -> float:
    if not lr_sum:
        return 0.0
    scaled, phi = _phi(space.values.abs(), lr_sum)  # clamped at 0, a space of negative ones would look exact
    # the integral of phi_1 from 0 to S: S^2 / 2 where lambda is 0
    again = torch.where(scaled < 1e-4, lr_sum**2 / 2, lr_sum * (lr_sum - phi) / scaled.clamp_min(1e-30))
    return space.rest * max(space.last(phi), space.last(again) / lr_sum)


def adjoint(
    segments: Sequence[Segment],
    u_end: Tensor,
    steps: int = LANCZOS_STEPS,
    progress: Callable[[float], None] = lambda share: None,
    tolerance: float = 0.0,
) -> list[Tensor]:
    """Return `trace_back`'s directions alone."""
    return trace_back(segments, u_end, steps, progress, tolerance)[0]


def trace_back(
    segments: Sequence[Segment],
    u_end: Tensor,
    steps: int = LANCZOS_STEPS,
    progress: Callable[[float], None] = lambda share: None,
    tolerance: float = 0.0,
) -> tuple[list[Tensor], list[Resolution]]:
    """Return the direction r_t (p,) of every segment before the division by N, and how exact it is, in their order.

    Args:
        u_end: (p,) grad L_V at the last segment's theta.
        steps: Lanczos steps for each minibatch, at most.
        progress: called before each Hessian-vector product, with the share of them that is done.
        tolerance: residual at which the steps of a minibatch end.

    Raises:
        NonFinite: u_end, a product or a direction is not finite; names the segment.
    """
    u, found = u_end, []
    for done, segment in enumerate(reversed(segments)):
        each = steps * len(segment.minibatches)
        count = lambda product, d=done, e=each: progress((d + product / e) / len(segments))  # noqa: E731
        try:
            r, u, resolution = segment_directions(segment, u, steps, count, tolerance)
        except NonFinite as error:
            raise NonFinite(error.what, len(segments) - 1 - done) from error
        found.append((r, resolution))
    return [r for r, _ in found[::-1]], [resolution for _, resolution in found[::-1]]
