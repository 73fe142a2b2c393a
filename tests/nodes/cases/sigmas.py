"""Schedules of noise levels, and changes of them."""

from __future__ import annotations

import numpy as np

from tests.nodes.making import Case, case, latent

SIGMAS = np.array([14.6, 9.0, 4.5, 1.2, 0.03, 0.0], np.float32)
EMPTY = np.zeros(0, np.float32)

CASES: list[Case] = [
    *(
        case("KarrasScheduler", f"{steps}-{rho}", steps=steps, sigma_max=14.614642, sigma_min=0.0291675, rho=rho)
        for steps, rho in ((20, 7.0), (1, 3.0), (5, 0.5))
    ),
    case("KarrasScheduler", "rho-0", steps=3, sigma_max=14.6, sigma_min=0.03, rho=0.0),
    *(
        case("ExponentialScheduler", str(steps), steps=steps, sigma_max=14.614642, sigma_min=0.0291675)
        for steps in (1, 2, 20)
    ),
    case("ExponentialScheduler", "zero", steps=3, sigma_max=14.6, sigma_min=0.0),
    *(
        case("PolyexponentialScheduler", f"{steps}-{rho}", steps=steps, sigma_max=14.6, sigma_min=0.03, rho=rho)
        for steps, rho in ((20, 1.0), (1, 2.0), (7, 2.5), (4, 0.0))
    ),
    *(
        case("LaplaceScheduler", f"{mu}-{beta}", steps=9, sigma_max=14.6, sigma_min=0.03, mu=mu, beta=beta)
        for mu, beta in ((0.0, 0.5), (-1.3, 2.0), (3.0, 0.0))
    ),
    *(
        case("VPScheduler", f"{steps}-{eps_s}", steps=steps, beta_d=19.9, beta_min=0.1, eps_s=eps_s)
        for steps, eps_s in ((20, 0.001), (1, 0.5), (4, 0.0))
    ),
    *(
        case(
            "LTXVScheduler",
            f"{label}-{stretch}-{steps}",
            steps=steps,
            max_shift=2.05,
            base_shift=0.95,
            stretch=stretch,
            terminal=0.1,
            **more,
        )
        for label, more in (("plain", {}), ("video", {"latent": latent(1, 2, 3, 10, 12)}))
        for stretch in (True, False)
        for steps in (2, 20)
    ),
    *(case("SplitSigmas", str(step), exact=True, sigmas=SIGMAS, step=step) for step in (0, 2, 5, 99)),
    *(
        case("SplitSigmasDenoise", str(denoise), exact=True, sigmas=SIGMAS, denoise=denoise)
        for denoise in (0.0, 0.3, 0.5, 1.0)
    ),
    case("SplitSigmasDenoise", "empty", exact=True, sigmas=EMPTY, denoise=0.5),
    case("FlipSigmas", "ending-in-zero", exact=True, sigmas=SIGMAS),
    case("FlipSigmas", "ending-above", exact=True, sigmas=SIGMAS[:-1]),
    case("FlipSigmas", "empty", exact=True, sigmas=EMPTY),
    case("SetFirstSigma", "plain", exact=True, sigmas=SIGMAS, sigma=136.0),
    case("SetFirstSigma", "empty", sigmas=EMPTY, sigma=136.0),
    *(
        case(
            "ExtendIntermediateSigmas",
            f"{spacing}-{steps}-{start}-{end}",
            sigmas=SIGMAS,
            steps=steps,
            start_at_sigma=start,
            end_at_sigma=end,
            spacing=spacing,
        )
        for spacing in ("linear", "cosine", "sine")
        for steps, start, end in ((2, -1.0, 12.0), (5, 9.0, 1.2), (1, -1.0, 0.0), (3, 0.0, 5.0))
    ),
    case(
        "ExtendIntermediateSigmas",
        "one",
        sigmas=SIGMAS[:1],
        steps=3,
        start_at_sigma=-1.0,
        end_at_sigma=0.0,
        spacing="sine",
    ),
]
