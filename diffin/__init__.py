"""The Diff-In training influence (arXiv 2508.14648) by forward passes. Torch only: no job, file, queue or HTTP.

Shapes, declared once: p parameters counted, n samples in a batch, R samples in the reference batch B, d embedding
width, m checkpoints, q points of a stencil. theta, gradients and directions are flat vectors (p,).
Derivations and the sign stand in docs/method.md.
"""
