"""The container image: built from Debian's packages and PyPI's wheels, with no Docker and no registry of images.

`inputs` fetches both, `contents` lays out what of them the image needs, `layers` writes directories as layers, `build`
puts the image together, and `enter` is the image's entry point.
"""
