"""What can be wrong with a bundle or an image, by name.

ModelsError
├── BundleError
│   ├── BundleDamaged      a file is missing, changed, unlisted or does not hold what it must
│   ├── BundleForeign      not a bundle of ours, or not the one that its folder's name promises
│   ├── SchemaTooNew       written by a later version of this software
│   ├── BundleNotFound     no such id or version
│   └── BundleExists       this id and version are already written; versions never change
├── NoSuchClass            no direction of a classifier is about the class that was asked for
├── OtherClass             a direction is about something else than the class that was asked for besides
├── ClassifierMisfit       f takes or answers something else than its manifest declares
└── UndecodableImage       the bytes do not become one image
    ├── ImageTruncated     the file ends inside one of its parts
    ├── ImageDamaged       a part of the file contradicts its format
    ├── ImageUnsupported   whole, but its pixels are of a kind that is not read
    └── SyntaxUnsupported  a DICOM transfer syntax that is not read

Each class carries a stable `code` for job records and HTTP answers. No message quotes the content of an image.
"""

from typing import ClassVar


class ModelsError(Exception):
    """Base of everything this package refuses."""

    code: ClassVar[str] = "models-error"


class BundleError(ModelsError):
    """A bundle cannot be used."""

    code = "bundle-error"


class BundleDamaged(BundleError):
    """A file of the bundle is missing, changed, unlisted or does not hold what it must."""

    code = "bundle-damaged"


class BundleForeign(BundleError):
    """The folder is not a bundle of ours, or its manifest speaks of another bundle."""

    code = "bundle-foreign"


class SchemaTooNew(BundleError):
    """The manifest follows a schema that this version cannot read."""

    code = "bundle-schema-too-new"


class BundleNotFound(BundleError):
    """No bundle has this id and version."""

    code = "bundle-not-found"


class BundleExists(BundleError):
    """A bundle with this id and version is already there."""

    code = "bundle-exists"


class UndecodableImage(ModelsError):
    """The bytes cannot be decoded to one image."""

    code = "undecodable-image"


class ImageTruncated(UndecodableImage):
    """The file ends inside one of its parts."""


class ImageDamaged(UndecodableImage):
    """A part of the file contradicts its format."""


class ImageUnsupported(UndecodableImage):
    """The file is whole, but its pixels are of a kind that is not read."""


class SyntaxUnsupported(UndecodableImage):
    """The DICOM object is in a transfer syntax that is not read."""


class NoSuchClass(ModelsError):
    """No direction of the classifier is about the class that was asked for."""

    code = "no-such-class"


class OtherClass(ModelsError):
    """The direction is about something else than the class that was asked for besides."""

    code = "other-class"


class ClassifierMisfit(ModelsError):
    """The classifier takes or answers something else than its manifest declares."""

    code = "classifier-misfit"
