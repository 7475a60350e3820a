"""The Diff-In training influence (arXiv 2508.14648) by forward passes. Torch only: no job, file, queue or HTTP.

Shapes, declared once: p parameters counted, n samples in a batch, R samples in the reference batch B, d embedding
width, m checkpoints, q points of a stencil. theta, gradients and directions are flat vectors (p,).
Derivations and the sign stand in docs/method.md.

Any module with a per-sample loss will do:

>>> import torch
>>> from torch.nn.functional import cross_entropy
>>> from diffin.adjoint import Segment
>>> from diffin.batch_loss import MeanLoss
>>> from diffin.module import FunctionalModule
>>> from diffin.prepare import Checkpoint, Problem, influence_directions, prepare
>>> from diffin.samples import ModuleLosses
>>> inputs, labels = torch.randn(100, 6), torch.randint(0, 4, (100,))
>>> net = FunctionalModule.of(torch.nn.Linear(6, 4).eval())
>>> def losses(theta, batch):
...     return cross_entropy(net(theta, batch[0].to(theta.dtype)), batch[1], reduction="none")
>>> train, probes = MeanLoss(losses, [(inputs, labels)], 100), (inputs[:32], labels[:32])
>>> samples = ModuleLosses(losses)
>>> last = Checkpoint(Segment(net.theta, 0.5, [train]), 50, 0.01, train, None, samples, samples)
>>> problem = Problem(probes, probes, ("diffin",), n_samples=100)
>>> [influence] = influence_directions(problem, [last])
>>> ready = prepare(problem, last, {"influence": influence}, checkpoints=1, centre=False)
>>> ready.fast["diffin"].shape  # of the probes; `evaluate(samples, theta, ...)` with the same stencil for others
torch.Size([32])
"""
