"""Everything that a user can cause, with the exit code that it ends the program with.

ApplianceError                 1
├── ConfigError                2   configuration or command line (argparse uses 2 as well)
├── ModelError                10
│   ├── ModelMissing          11
│   ├── NotAModel             12   not a TFLite file, or a damaged one
│   ├── WrongLayout           13   a model, but not one of the three layouts, or of no use in int8
│   ├── NeedsEdgeTpu          14   compiled for the Edge TPU, and there is no other
│   ├── NotCompiled           15   not compiled for the Edge TPU, and there is no other
│   ├── BundleError           16   a bundle that is damaged, or not what the appliance takes
│   ├── SeveralModels         17   a folder of which nobody can say which model is meant
│   ├── ModelsNotWritable     18   the folder of models cannot be changed
│   └── NotForEdgeTpu         19   not every op of the model would run on an Edge TPU
├── SourceError               20
│   ├── SourceMissing         21
│   ├── SourceUnreadable      22
│   └── SourceTruncated       23   ended before it should have
├── SourceLost                24   recoverable: the source is opened again, with back-off
├── DisplayError              30
│   ├── NoScreen              31
│   └── OutputNotWritable     32
├── ConvertError              40
│   ├── LossTooGreat          41   a step of the conversion made too much of a difference
│   ├── CompilerFailed        42   edgetpu_compiler gave no model
│   └── TooLittleMapped       43   the compiled model would leave too much to the CPU
├── DownloadError             45   the file is not there, not the one that was expected, or out of reach
├── EdgeTpuError              60
│   ├── NoEdgeTpu             61   none is plugged in, or not the named one, or it does not answer
│   ├── NoEdgeTpuLibrary      62   libedgetpu is not installed, or cannot be loaded
│   ├── EdgeTpuCrash          63   libedgetpu crashes while it loads
│   └── RuntimeTooOld         64   the model is compiled for a newer libedgetpu
├── EvaluateError             70   the reference or the labels cannot be used
└── StageStuck                50   a thread did not end in time

Messages are one line that says what is wrong and what to do about it.
"""

from __future__ import annotations


class ApplianceError(Exception):
    """Ends the program with a one-line message and `exit_code`."""

    exit_code = 1


class ConfigError(ApplianceError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class ModelError(ApplianceError):
    """The model cannot be used."""

    exit_code = 10


class ModelMissing(ModelError):
    """There is no such file."""

    exit_code = 11


class NotAModel(ModelError):
    """The file is no TFLite model, or is damaged."""

    exit_code = 12


class WrongLayout(ModelError):
    """The model's inputs or outputs are not those of a known layout, or cannot carry useful masks."""

    exit_code = 13


class NeedsEdgeTpu(ModelError):
    """The model is compiled for the Edge TPU and cannot run on the CPU."""

    exit_code = 14


class NotCompiled(ModelError):
    """The Edge TPU needs a compiled model, and this one is not."""

    exit_code = 15


class BundleError(ModelError):
    """A bundle is damaged, or holds what the appliance does not take."""

    exit_code = 16


class SeveralModels(ModelError):
    """A folder holds more than one model."""

    exit_code = 17


class ModelsNotWritable(ModelError):
    """The folder of installed models cannot be changed."""

    exit_code = 18


class NotForEdgeTpu(ModelError):
    """Not every op of the model would run on an Edge TPU."""

    exit_code = 19


class SourceError(ApplianceError):
    """The source cannot be used."""

    exit_code = 20


class SourceMissing(SourceError):
    """There is no such file, folder or device."""

    exit_code = 21


class SourceUnreadable(SourceError):
    """The source is there, but holds no picture that can be read."""

    exit_code = 22


class SourceTruncated(SourceError):
    """The source ended before it should have; everything up to there was processed."""

    exit_code = 23


class SourceLost(ApplianceError):
    """A source that had worked went away. Recoverable: the capture stage opens it again, with back-off."""

    exit_code = 24


class DisplayError(ApplianceError):
    """The display cannot be used."""

    exit_code = 30


class NoScreen(DisplayError):
    """There is no screen, or no library to use it with."""

    exit_code = 31


class OutputNotWritable(DisplayError):
    """The output folder cannot be written to."""

    exit_code = 32


class ConvertError(ApplianceError):
    """A step of the conversion failed."""

    exit_code = 40


class LossTooGreat(ConvertError):
    """What a step of the conversion gave says something else than what went in."""

    exit_code = 41


class CompilerFailed(ConvertError):
    """edgetpu_compiler refused the model, crashed, or took too long."""

    exit_code = 42


class TooLittleMapped(ConvertError):
    """edgetpu_compiler would leave too many of the model's ops to the CPU."""

    exit_code = 43


class DownloadError(ApplianceError):
    """A file cannot be downloaded, or is not the one that was expected."""

    exit_code = 45


class EvaluateError(ApplianceError):
    """The reference or the labels to compare with cannot be used."""

    exit_code = 70


class EdgeTpuError(ApplianceError):
    """The Edge TPU cannot be used."""

    exit_code = 60


class NoEdgeTpu(EdgeTpuError):
    """None is plugged in, or not the one that was asked for, or it does not answer."""

    exit_code = 61


class NoEdgeTpuLibrary(EdgeTpuError):
    """libedgetpu is not installed, or cannot be loaded."""

    exit_code = 62


class EdgeTpuCrash(EdgeTpuError):
    """libedgetpu crashes while it loads: it and the TFLite runtime do not fit each other."""

    exit_code = 63


class RuntimeTooOld(EdgeTpuError):
    """The model is compiled for a newer libedgetpu."""

    exit_code = 64


class StageStuck(ApplianceError):
    """A thread did not stop within its time."""

    exit_code = 50
