"""The methods that can be compared, by name."""

from collections.abc import Mapping

from ftp_hf.baselines import (
    ALPHAS,
    EWCTrainerMixin,
    FLOWTrainerMixin,
    KLTrainerMixin,
    L2SPTrainerMixin,
    LDIFSTrainerMixin,
    LinearProbeTrainerMixin,
    MoFOTrainerMixin,
    ProbedFLOWTrainerMixin,
    SPDTrainerMixin,
    TPGMTrainerMixin,
    attach_corda,
    attach_kappatune,
    attach_osf,
    fapm,
    interpolate,
    save_as_lora,
)
from ftp_hf.runs.facts import PLAIN

from .method_kinds import Averaged, Continued, Derived, Projected, Trained

__all__ = ["METHODS", "PROBE"]

PROBE = "linear-probe"
"""Whose head the other methods that train start with, where heads are probed first."""


_FLOW = "Sanyal et al., ICML 2025, arXiv 2502.02797"
_FTP = "Tian et al., NeurIPS 2023, arXiv 2310.19182"
_LORA = "Hu et al., ICLR 2022, arXiv 2106.09685"
_NO_DECAY = {"weight_decay": 0.0}  # whose place these methods take, or which would shrink what is pre-trained
_RADII = {"kappa": (1.0,), "radius_lr": (1e-2,)}
_SHARE = {"kappa": (1.0,), "radius_share": (0.03,)}

METHODS: Mapping[str, Trained | Derived | Averaged | Continued] = {
    "plain": Trained(PLAIN, "AdamW on all weights"),
    "small-lr": Continued(
        "small learning rate",
        "plain fine-tuning below its usual rates, as small as ID validation allows: Lin et al., ICLR 2026, arXiv 2509.20758",
        {"factor": (3.16,), "most": (4,)},  # half a power of ten
        base="plain",
    ),
    "linear-probe": Trained(
        "linear probe", "only the new head is trained", mixin=LinearProbeTrainerMixin, needs=["new"]
    ),
    "lp-ft": Trained("LP-FT", "Kumar et al., ICLR 2022, arXiv 2202.10054", base="linear-probe"),
    "l2-sp": Trained(
        "L2-SP",
        "Li et al., ICML 2018, arXiv 1802.01483",
        {"alpha": (0.001, 0.01, 0.1), "beta": (0.01,)},
        mixin=L2SPTrainerMixin,
        needs=["new"],
        training=_NO_DECAY,
    ),
    "wise-ft": Derived(
        "WiSE-FT",
        "Wortsman et al., CVPR 2022, arXiv 2109.01903",
        {"alpha": tuple(alpha for alpha in ALPHAS if 0 < alpha < 1)},
        base="plain",
        weights=interpolate,
    ),
    "fapm": Derived(
        "FAPM",
        "Huang et al., EMNLP 2025, arXiv 2509.08255",
        {"ratio": (0.1, 0.3, 0.5)},
        base="plain",
        weights=fapm,
    ),
    "average": Averaged(
        "last epochs averaged", "LAWA: Kaddour, 2022, arXiv 2209.14981", {"last": (2, 3)}, base="plain"
    ),
    "tpgm": Trained(
        "TPGM",
        "Tian et al., CVPR 2023, arXiv 2303.10720",
        {"radius_lr": (1e-2,), "interval": (1,), "iterations": (1,)},
        mixin=TPGMTrainerMixin,
        needs=["new", "held_out_dataset"],
        whole=["interval", "iterations"],
    ),
    "spd": Trained(
        "SPD",
        "Tian et al., NeurIPS 2024, arXiv 2411.01713",
        {"lambda_": (0.5, 1.0)},
        mixin=SPDTrainerMixin,
        needs=["new"],
        training=_NO_DECAY,
    ),
    "mofo": Trained(
        "MoFO",
        "Chen et al., TMLR 2025, arXiv 2407.20999",
        {"fraction": (0.05, 0.2)},
        mixin=MoFOTrainerMixin,
        needs=["new"],
    ),
    "ewc": Trained(
        "EWC",
        "Kirkpatrick et al., PNAS 2017, arXiv 1612.00796",
        {"lambda_": (1e1, 1e3, 1e5)},
        mixin=EWCTrainerMixin,
        needs=["new"],
        training=_NO_DECAY,
    ),
    "kl": Trained(
        "KL anchor",
        "loss + λ · KL(pre-trained ‖ model) of the answers",
        {"lambda_": (0.1, 1.0)},
        mixin=KLTrainerMixin,
        needs=["new"],
    ),
    "ldifs": Trained(
        "LDIFS", "Mukhoti et al., TMLR 2024, arXiv 2308.13320", {"lambda_": (0.1, 1.0)}, mixin=LDIFSTrainerMixin
    ),
    "flow": Trained("FLOW", _FLOW, mixin=FLOWTrainerMixin, needs=["new"]),
    "lp-flow": Trained("LP-FLOW", f"{_FLOW}, from a linear probe", mixin=ProbedFLOWTrainerMixin, base="linear-probe"),
    "lora": Trained("LoRA", _LORA, adapter=True),
    "corda": Trained(
        "CorDA",
        "Yang et al., NeurIPS 2024, arXiv 2406.05223; keeps what the training inputs need",
        adapter=True,
        attach=attach_corda,
        calibrated=True,
        save=save_as_lora,
        training=_NO_DECAY,
    ),
    "osf": Trained(
        "OSF",
        "Nayak et al., 2025, arXiv 2504.07097",
        {"effective_rank": (0.5,)},
        adapter=True,
        attach=attach_osf,
        of_adapter=["effective_rank"],
        training=_NO_DECAY,
    ),
    "kappatune": Trained(
        "KappaTune with LoRA",
        "Ludwig, 2025, arXiv 2506.16289",
        {"top_p": (0.2,)},
        adapter=True,
        attach=attach_kappatune,
        of_adapter=["top_p"],
    ),
    "ftp": Projected("FTP", _FTP, _RADII),
    "ftp-share": Projected("FTP, ρ", f"{_FTP}, with radii that learn at ρ · lr · fan-in", _SHARE),
    "lora+ftp": Projected("LoRA + FTP", f"{_LORA}; {_FTP}", _RADII, adapter=True),
    "lora+ftp-share": Projected(
        "LoRA + FTP, ρ", f"{_LORA}; {_FTP}, with radii that learn at a share of s · lr · Σ|A|", _SHARE, adapter=True
    ),
    "lora+factors": Projected(
        "LoRA + factors",
        "FTP on A and B, each around its start: no bound on the model's distance",
        _RADII,
        adapter=True,
        training={"ftp_adapters": "factors"},
    ),
}
"""By the name in a config, in the order of the report."""
