"""Batches of latents, taken apart and put together, with their masks and the noise that they get."""

from __future__ import annotations

from tests.nodes.making import Case, blocks, case, latent, noise

PLAIN = latent(5, 2, 3, 2)
ONE_MASK = latent(5, 2, 3, 2, noise_mask=noise(1, 1, 6, 4))
TWO_MASKS = latent(5, 2, 3, 2, noise_mask=blocks(2, 1, 6, 4), batch_index=[4, 2, 0, 9, 9])
MASKS = latent(5, 2, 3, 2, noise_mask=blocks(5, 1, 24, 16), batch_index=[10, 11, 12, 13, 14], other="kept")
VIDEO = latent(2, 2, 3, 2, 2)
LATENTS = (("plain", PLAIN), ("one-mask", ONE_MASK), ("two-masks", TWO_MASKS), ("masks", MASKS), ("video", VIDEO))

#: Three masks of the picture's size, as rebatching joins them with none.
FITTING = latent(3, 2, 3, 2, seed=3, noise_mask=blocks(3, 1, 24, 16), batch_index=[7, 6, 5])

CASES: list[Case] = [
    *(
        case(
            "LatentFromBatch",
            f"{label}-{first}-{length}",
            exact=True,
            samples=samples,
            batch_index=first,
            length=length,
        )
        for label, samples in LATENTS
        for first, length in ((1, 3), (3, 64), (63, 2))
    ),
    *(
        case("RepeatLatentBatch", f"{label}-{amount}", exact=True, samples=samples, amount=amount)
        for label, samples in LATENTS
        for amount in (1, 3)
    ),
    *(
        case("LatentBatch", f"{label}-{other}", samples1=first, samples2=second)
        for label, first in LATENTS[:-1]
        for other, second in (
            ("plain", latent(2, 2, 3, 2, seed=1)),
            ("numbered", latent(2, 2, 3, 2, seed=1, batch_index=[1, 1])),
            ("larger", latent(1, 2, 9, 4, seed=1)),
        )
    ),
    case("LatentBatch", "video", samples1=VIDEO, samples2=latent(1, 2, 3, 4, 4)),
    *(
        case(
            "LatentBatchSeedBehavior", f"{label}-{behaviour}", exact=True, samples=samples, seed_behavior=behaviour
        )
        for label, samples in LATENTS
        for behaviour in ("random", "fixed")
    ),
    *(
        case("RebatchLatents", f"{label}-{size}", exact=True, latents=latents, batch_size=[size])
        for size in (1, 3, 4, 64)
        for label, latents in (
            ("one", [PLAIN]),
            ("alike", [PLAIN, latent(1, 2, 3, 2, seed=1), latent(2, 2, 3, 2, seed=2)]),
            ("sizes", [PLAIN, latent(2, 2, 5, 2, seed=1), latent(3, 2, 5, 2, seed=2), PLAIN]),
            ("masks", [PLAIN, FITTING, latent(2, 2, 3, 2, seed=4)]),
            ("one-mask", [ONE_MASK]),
            ("masks-of-two-sizes", [MASKS, ONE_MASK]),
            ("full-masks", [latent(3, 2, 3, 2, noise_mask=blocks(3, 1, 24, 16) * 0 + 1)]),
            ("numbered", [TWO_MASKS, TWO_MASKS]),
            ("videos", [VIDEO, latent(1, 2, 3, 2, 2, seed=1)]),
        )
    ),
    case("RebatchLatents", "none", latents=[], batch_size=[2]),
    *(
        case(
            "TrimVideoLatent", str(amount), exact=True, samples=latent(1, 2, 3, 2, 2, type="x"), trim_amount=amount
        )
        for amount in (0, 2, 99999)
    ),
]
