"""Measure, from pixels alone, how far a patch moved between two frames."""

import numpy as np
import numpy.typing as npt

from worker.engines.base import Image

Grey = npt.NDArray[np.float64]
ROUNDS = 8
PRECISION = 1e-4


def shift_between(
    before: Image, after: Image, *, centre: tuple[int, int], half: int
) -> npt.NDArray[np.float64]:
    """Return how far the middle of the square around `centre` (x, y) moved, as (dx, dy).

    Phase correlation gives a guess in whole pixels, and Gauss-Newton steps on the difference of
    the two patches refine it to a hundredth of a pixel on a textured image. The fit lets the
    patch stretch and turn a little, as it does under a zoom or a roll.
    """
    patch = (
        slice(centre[1] - half, centre[1] + half),
        slice(centre[0] - half, centre[0] + half),
    )
    first, second = _smooth(before), _smooth(after)
    from skimage.registration import phase_cross_correlation  # It takes 0.2 s of CPU.

    guess = phase_cross_correlation(first[patch], second[patch], normalization=None)[0]
    shift = -np.array([guess[1], guess[0]], dtype=np.float64)
    spectrum = np.fft.rfft2(second)
    y, x = np.mgrid[-half:half, -half:half] / half
    for _ in range(ROUNDS):
        moved = _moved(spectrum, shift, second.shape)[patch]
        slope_y, slope_x = np.gradient((first[patch] + moved) / 2)
        terms = [slope * by for by in (1, x, y) for slope in (slope_x, slope_y)]
        slopes = np.stack([term.ravel() for term in terms])
        step = np.linalg.solve(slopes @ slopes.T, slopes @ (moved - first[patch]).ravel())[:2]
        shift -= step
        if np.abs(step).max() < PRECISION:
            break
    return shift


def psnr(one: Image, other: Image) -> float:
    """Return the similarity of two frames in dB; 99 if they are identical."""
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def _smooth(frame: Image) -> Grey:
    from skimage.filters import gaussian

    return np.asarray(gaussian(frame.mean(axis=-1), sigma=1.5), dtype=np.float64)


def _moved(
    spectrum: npt.NDArray[np.complex128],
    shift: npt.NDArray[np.float64],
    shape: tuple[int, ...],
) -> Grey:
    """Return the image shifted so that what is at p + shift is at p, exactly for any fraction."""
    rows = 2 * np.pi * np.fft.fftfreq(shape[0])[:, None]
    columns = 2 * np.pi * np.fft.rfftfreq(shape[1])[None, :]
    turned = spectrum * np.exp(1j * (columns * shift[0] + rows * shift[1]))
    return np.asarray(np.fft.irfft2(turned, s=shape))
