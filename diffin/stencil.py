"""Estimators as linear combinations of losses at a few points around a checkpoint, and of slopes at it.

    score_t(z) = sum_j weight_j l_z(theta_t + sum_d coefficient_jd direction_d) + sum_d weight_d D_d l_z(theta_t)

so a shard needs forward passes only, and all that is specific to an estimator is this table. A slope D_d l_z is one
pass in forward mode, and bears coarse arithmetic, where a difference wants all of float32's digits. With b = grad L_B,
v = grad L_V, w = H_B v and r from the adjoint:

    tracin      eta/N D_v l_z
    diffin      1/N D_r l_z                                     two points +-h r
    diffin_eq9  -t eta^2/(N m) (D_w l_z + D_v D_b l_z)          arXiv 2508.14648 eq. 9, literal sign
        V = training (v = b): the second derivative along theta + s b + s^2/2 w: three points, and their first
        difference is D_b l_z;
        other V: the mixed difference over theta +- h1 v +- h2 b (+-)(+-) h1 h2 w: four points.
"""

from dataclasses import dataclass

from torch import Tensor

Coefficients = tuple[tuple[str, float], ...]
"""(direction, coefficient) pairs; () is the checkpoint itself."""

CENTRE: Coefficients = ()


@dataclass(frozen=True)
class Stencil:
    """What is evaluated, its columns, and for each estimator a weight for each of them: weights[estimator][column].

    Attributes:
        points: where the loss is taken.
        weights: by estimator, one for each point, then one for each slope.
        slopes: directions along which the derivative at the checkpoint is taken.
    """

    points: tuple[Coefficients, ...]
    weights: dict[str, tuple[float, ...]]
    slopes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[Coefficients | str, ...]:
        return (*self.points, *self.slopes)

    @property
    def directions(self) -> set[str]:
        """Names of the directions that the columns use."""
        return {name for point in self.points for name, _ in point} | set(self.slopes)

    def scaled(self, factors: dict[str, float]) -> "Stencil":
        """Return the stencil with each estimator's weights multiplied by its factor."""
        weights = {name: tuple(factors[name] * value for value in row) for name, row in self.weights.items()}
        return Stencil(self.points, weights, self.slopes)


def move(theta: Tensor, point: Coefficients, directions: dict[str, Tensor]) -> Tensor:
    """Return theta + sum of coefficient * direction (p,), in theta's precision."""
    for name, coefficient in point:
        theta = theta + coefficient * directions[name].to(theta)
    return theta


def first_difference(estimator: str, direction: str, step: float) -> Stencil:
    """Return the central difference of D_direction l_z: error O(step^2)."""
    half = 1 / (2 * step)
    return Stencil((((direction, step),), ((direction, -step),)), {estimator: (half, -half)})


def slope(estimator: str, direction: str) -> Stencil:
    """Return D_direction l_z itself, by forward mode: exact to round-off."""
    return Stencil((), {estimator: (1.0,)}, (direction,))


def curve(step: float, gradient: str = "gradient", bend: str = "bend") -> Stencil:
    """Return tracin and diffin_eq9's bracket for V = training: differences along theta + s b + s^2/2 w."""
    points = tuple(((gradient, s * step), (bend, step * step / 2)) for s in (1, -1))
    half, square = 1 / (2 * step), 1 / step**2
    return Stencil((CENTRE, *points), {"tracin": (0, half, -half), "diffin_eq9": (-2 * square, square, square)})


def mixed(
    step_v: float, step_b: float, target: str = "target_gradient", gradient: str = "gradient", bend: str = "bend"
) -> Stencil:
    """Return tracin and diffin_eq9's bracket for any V: differences over the four corners +-v, +-b."""
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    points = tuple(
        ((target, sv * step_v), (gradient, sb * step_b), (bend, sv * sb * step_v * step_b)) for sv, sb in signs
    )
    first = tuple(sv / (4 * step_v) for sv, _ in signs)
    second = tuple(sv * sb / (4 * step_v * step_b) for sv, sb in signs)
    return Stencil(points, {"tracin": first, "diffin_eq9": second})


def merge(stencils: list[Stencil], extra: tuple[Coefficients, ...] = ()) -> Stencil:
    """Return one stencil over all columns, equal ones taken once, `extra` points with weight 0."""
    points = tuple(dict.fromkeys([point for stencil in stencils for point in stencil.points] + list(extra)))
    slopes = tuple(dict.fromkeys(name for stencil in stencils for name in stencil.slopes))
    weights: dict[str, tuple[float, ...]] = {}
    for stencil in stencils:
        place = {column: j for j, column in enumerate(stencil.columns)}
        for name, row in stencil.weights.items():
            weights[name] = tuple(row[place[c]] if c in place else 0.0 for c in (*points, *slopes))
    return Stencil(points, weights, slopes)
