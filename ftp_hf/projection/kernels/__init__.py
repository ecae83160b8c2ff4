"""
How a batch of tensors is projected on its device: `cpu` (C++), `cuda` (Triton), `eager` (torch's own operations), and
`low_rank` for products of factors. `dispatch` chooses, `driver` learns and settles the radii around the rows, `blocks` cuts
these into pieces of work. `cpu_library` compiles the C++; `cuda_table` is what the CUDA kernels are told, and `cuda_rows` what
they do to rows. What all compute stands in `projection/equations.py`.
"""
