"""A class-balanced subset of Fashion-MNIST that comes with the package.

Fashion-MNIST is by Zalando SE under the MIT license, see LICENSE beside this file. `make` is the
script that chose the images, whose places in the original files are kept with them.
"""
