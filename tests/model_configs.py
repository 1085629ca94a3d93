"""Small configs of every model in `MODELS`."""

from ml_collections import ConfigDict


def model_config(name="cnn", **changes):
    kwargs = {
        "cnn": {
            "features": (4, 8),
            "kernel_size": 3,
            "padding": "VALID",
            "dense": (16,),
            "dropout": 0.0,
            "batch_norm": False,
        },
        "mlp": {"dense": (16,), "dropout": 0.0},
        "tiny": {"stem": 4, "features": 6, "steps": 2},
        "sprint": {
            "border": 2,
            "filters": 3,
            "filter_size": 5,
            "features": (8,),
            "dense": (16,),
        },
        "vgg": {
            "features": (4, 8),
            "depths": (1, 2),
            "dense": (16,),
            "dropout": 0.0,
        },
    }[name]
    return ConfigDict({"name": name, "kwargs": {**kwargs, **changes}})
