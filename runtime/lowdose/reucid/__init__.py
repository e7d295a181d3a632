"""REUCID: an image rebuilt from the eigenpatches of its own patches that a small classifier finds useful.

Mitchell, Sanvito, Jones, "rapid eigenpatch utility classifier", Scientific Reports 2025. For one image at a time; the
classifier sees eigenpatches and eigenvalues, never the image, so it cannot add what is not in the data.
"""

from lowdose.reucid.image import denoise, interim_images

__all__ = ["denoise", "interim_images"]
