"""One image from noisy to denoised: patch size, stacks, eigenpatches, verdicts, canvas and terrain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowdose.errors import LowdoseError
from lowdose.reucid.classifier import Classifier, load_classifier
from lowdose.reucid.covariance import second_moments
from lowdose.reucid.eigenpatches import from_moments
from lowdose.reucid.psf import SMALLEST_PATCH_PX, patch_size
from lowdose.reucid.reconstruction import add_truncated, gather, truncate_all
from lowdose.reucid.stacks import deal, patch_matrix_bytes, stacks_needed
from lowdose.reucid.terrain import patch_terrain

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

SMALLEST_IMAGE_PX = 16
# Moments of patches larger than this take gigabytes.
LARGEST_PATCH_PX = 63
DEFAULT_MEMORY_BYTES = 2**30


def denoise(
    image: ArrayLike,
    *,
    patch_px: int | None = None,
    n_stacks: int | None = 1,
    memory_bytes: float = DEFAULT_MEMORY_BYTES,
    seed: int = 0,
    threads: int = 1,
    model: str | Path = "reucid",
) -> Image:
    """Denoise one image (height, width) of any real dtype; float32 in the units of the input.

    All arguments and errors are those of `interim_images`, of which this is the last image. One stack, the
    default, is by far the quickest, and several are not better by more than 0.3 dB (the model's card).
    """
    *_, last = interim_images(
        image,
        patch_px=patch_px,
        n_stacks=n_stacks,
        memory_bytes=memory_bytes,
        seed=seed,
        threads=threads,
        model=model,
    )
    return last


def interim_images(
    image: ArrayLike,
    *,
    patch_px: int | None = None,
    n_stacks: int | None = None,
    memory_bytes: float = DEFAULT_MEMORY_BYTES,
    seed: int = 0,
    threads: int = 1,
    model: str | Path = "reucid",
) -> Iterator[Image]:
    """Denoise one image (height, width) stack by stack, and give the image (float32) as it is after each stack.

    REUCID (Mitchell, Sanvito, Jones, Scientific Reports 2025): patches are reduced to the eigenpatches that the
    classifier `model` (a bundled name or a file) finds useful, and averaged where they overlap. The mean of the
    image is set aside first, so an offset or a gain of the input is one of the output.

    patch_px: odd, at least 5; None takes it from the width of the point spread function. n_stacks: the patches are
    dealt at random (by `seed`) into so many stacks, each with eigenpatches of its own; None takes as many as keep the
    patch matrix of one stack within `memory_bytes`. One stack needs no patch matrix at all. threads: for one
    stack; the result does not depend on it. Pixels that no patch has covered yet hold the mean of the image.
    A constant image comes back as it is.

    Raises LowdoseError for arrays that are not one real finite image of at least 16 x 16 pixels, for a patch that
    does not fit, for stacks that do not fit into the memory, and for a model that is no REUCID classifier.
    """
    signal = checked_image(image)
    height, width = signal.shape
    mean, scale = signal.mean(), np.ptp(signal)
    fluctuation = (signal - mean) / scale if scale > 0 else np.zeros_like(signal)
    if patch_px is None:
        patch_px = patch_size(fluctuation)
    check_settings(signal, patch_px, n_stacks, memory_bytes, threads)
    if n_stacks is None:
        n_stacks = stacks_needed(height, width, patch_px, memory_bytes)
    classifier = load_classifier(model)
    if scale == 0:
        return iter([signal.astype(np.float32)])
    images = (
        all_patches(fluctuation, patch_px, classifier, threads)
        if n_stacks == 1
        else stack_by_stack(fluctuation, patch_px, n_stacks, seed, classifier)
    )
    return (np.asarray(mean + scale * image, np.float32) for image in images)


def all_patches(image: Floats, patch_px: int, classifier: Classifier, threads: int) -> Iterator[Floats]:
    """One result, from every patch at once and without a patch matrix."""
    candidates = from_moments(second_moments(image, patch_px, threads), patch_px)
    canvas = truncate_all(image, candidates.kept(classifier.useful(candidates)), threads)
    every = np.ones((image.shape[0] - patch_px + 1, image.shape[1] - patch_px + 1), np.bool_)
    yield canvas / patch_terrain(every, patch_px)


def stack_by_stack(image: Floats, patch_px: int, n_stacks: int, seed: int, classifier: Classifier) -> Iterator[Floats]:
    """A result after each stack; each has its patch matrix and its own eigenpatches, as published."""
    stack_number = deal(image.shape[0], image.shape[1], patch_px, n_stacks, seed)
    canvas = np.zeros_like(image)
    for stack in range(n_stacks):
        patches, origins = gather(image, stack_number == stack, patch_px)
        candidates = from_moments(patches.T @ patches / len(patches), patch_px)
        add_truncated(canvas, patches, origins, candidates.kept(classifier.useful(candidates)))
        terrain = patch_terrain(stack_number <= stack, patch_px)
        yield canvas / np.maximum(terrain, 1)


def checked_image(image: ArrayLike) -> Floats:
    """The image as float64. Raises LowdoseError for what is not one real finite image of a sensible size."""
    pixels = np.asarray(image)
    if pixels.ndim != 2 or min(pixels.shape) < SMALLEST_IMAGE_PX:
        raise LowdoseError(
            f"REUCID denoises one image (height, width) of at least {SMALLEST_IMAGE_PX} x {SMALLEST_IMAGE_PX} pixels; "
            f"given an array of shape {pixels.shape}"
        )
    if np.iscomplexobj(pixels):
        raise LowdoseError("complex pixels cannot be denoised: give the modulus or the phase")
    try:
        signal = pixels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise LowdoseError(f"pixels of type {pixels.dtype} cannot be denoised: give numbers") from error
    if not (np.abs(signal) < np.finfo(np.float32).max).all():
        raise LowdoseError("the image has pixels that are NaN, infinite or beyond float32: replace them first")
    return signal


def check_settings(signal: Floats, patch_px: int, n_stacks: int | None, memory_bytes: float, threads: int) -> None:
    height, width = signal.shape
    largest = min(LARGEST_PATCH_PX, (min(height, width) + 1) // 2)
    if patch_px % 2 == 0 or not SMALLEST_PATCH_PX <= patch_px <= largest:
        raise LowdoseError(
            f"the patch side is {patch_px} px; expected an odd number from {SMALLEST_PATCH_PX} to {largest} for an "
            f"image of {height} x {width} pixels"
        )
    if threads < 1:
        raise LowdoseError(f"the number of threads is {threads}; expected at least 1")
    # With fewer patches than pixels in one, noise is all that eigenpatches can show.
    most = max(1, (height - patch_px + 1) * (width - patch_px + 1) // patch_px**2)
    if n_stacks is not None and not 1 <= n_stacks <= most:
        raise LowdoseError(
            f"the number of stacks is {n_stacks}; expected 1 to {most} for an image of {height} x {width} pixels and "
            f"patches of {patch_px}"
        )
    whole = patch_matrix_bytes(height, width, patch_px)
    if not memory_bytes * most >= whole:
        raise LowdoseError(
            f"{memory_bytes:g} bytes do not hold the smallest useful stack of patches; give at least {whole / most:.3g}"
        )
    needed = stacks_needed(height, width, patch_px, memory_bytes)
    if n_stacks is not None and 1 < n_stacks < needed:
        raise LowdoseError(
            f"the patch matrices of {n_stacks} stacks take {whole / n_stacks:.3g} bytes each, more than the memory of "
            f"{memory_bytes:.3g}; give at least {needed} stacks, or 1, which needs no patch matrix"
        )
