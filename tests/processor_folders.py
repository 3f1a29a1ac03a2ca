"""Image processors as folders say them: published ones, and odd ones of small sizes."""

import json
from pathlib import Path

OFF = {"do_resize": False, "do_rescale": False, "do_normalize": False}
TRANSFORMERS = {
    "vit": {"image_processor_type": "ViTImageProcessor"},
    "vit-odd": {"image_processor_type": "ViTImageProcessorFast", "size": [13, 29], "resample": 1,
                "image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7],
                "data_format": "channels_first", "do_pad": False},
    "vit-old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 20, "do_normalize": False},
    "vit-crop": {"image_processor_type": "ViTImageProcessor", "do_center_crop": True,
                 "crop_size": {"height": 15, "width": 22}, "size": {"shortest_edge": 18},
                 "resample": 0},
    "vit-between": {"image_processor_type": "ViTImageProcessor", "do_center_crop": True,
                    "crop_size": 33, "size": {"shortest_edge": 28, "longest_edge": 40},
                    "resample": 4},
    "vit-within": {"image_processor_type": "ViTImageProcessor", "do_center_crop": True,
                   "crop_size": [31, 16], "size": {"max_height": 300, "max_width": 350},
                   "resample": 5, "image_mean": 0.25, "image_std": 0.5},
    "vit-raw": {"image_processor_type": "ViTImageProcessor", "do_center_crop": True,
                "crop_size": 21} | OFF,
    "deit": {"image_processor_type": "DeiTImageProcessor"},
    "deit-old": {"feature_extractor_type": "DeiTFeatureExtractor", "size": 27, "crop_size": 24,
                 "do_rescale": None, "rescale_factor": 1 / 127.5},
    "bit": {"image_processor_type": "BitImageProcessor", "crop_size": {"height": 19, "width": 18},
            "size": {"shortest_edge": 20}, "do_convert_rgb": True},
    "clip": {"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 17, "size": 17},
    "clip-plain": {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": False,
                   "crop_size": 40, "size": 23, "do_rescale": False},
    "siglip": {"image_processor_type": "SiglipImageProcessor",
               "size": {"height": 26, "width": 26}},
    "convnext": {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875, "size": 21},
    "convnext-384": {"feature_extractor_type": "ConvNextFeatureExtractor",
                     "size": {"shortest_edge": 384}},
    "convnext-crop": {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.6,
                      "size": {"shortest_edge": 30}, "do_center_crop": True, "crop_size": 25},
    "efficientnet": {"image_processor_type": "EfficientNetImageProcessor", "size": 33,
                     "resample": 0, "image_std": [0.47853944, 0.4732864, 0.47434163]},
    "efficientnet-odd": {"image_processor_type": "EfficientNetImageProcessor",
                         "size": {"height": 35, "width": 31}, "crop_size": {"height": 28,
                         "width": 30}, "do_center_crop": True, "include_top": False,
                         "rescale_offset": True, "rescale_factor": 1 / 127.5},
    "efficientnet-top": {"image_processor_type": "EfficientNetImageProcessor", "size": 12,
                         "do_normalize": False, "image_std": [0.2, 0.3, 0.4]},
    "mobilenet_v1": {"image_processor_type": "MobileNetV1ImageProcessor", "crop_size": 20,
                     "size": {"shortest_edge": 24}},
    "mobilenet_v2": {"image_processor_type": "MobileNetV2ImageProcessor",
                     "crop_size": {"height": 14, "width": 25}, "do_reduce_labels": True,
                     "size": {"shortest_edge": 19}},
}  # fmt: skip
TIMM = {
    "timm": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95,
             "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
             "fixed_input_size": True, "crop_mode": "center"},
    "timm-even": {"input_size": [3, 21, 21], "interpolation": "bilinear", "crop_pct": 0.81},
    "timm-wide": {"input_size": [3, 17, 30], "interpolation": "lanczos", "crop_pct": 0.7,
                  "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "timm-squash": {"input_size": [3, 19, 26], "interpolation": "hamming", "crop_pct": 0.9,
                    "crop_mode": "squash", "test_input_size": [3, 40, 40], "test_crop_pct": 1.0},
    "timm-border": {"input_size": [3, 28, 23], "interpolation": "box", "crop_pct": 0.93,
                    "crop_mode": "border"},
    "timm-square": {"input_size": [3, 25, 25], "interpolation": "nearest", "crop_pct": 1.0,
                    "crop_mode": "border", "mean": [0.1, 0.9, 0.4], "std": [0.3, 0.2, 0.1]},
}  # fmt: skip
LARGE = ("vit", "deit", "convnext-384", "timm")


def write(name: str, folder: Path) -> Path:
    """The folder of a processor of this name."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in TIMM:
        config = {"architecture": "resnet18", "num_classes": 5, "pretrained_cfg": TIMM[name]}
        (folder / "config.json").write_text(json.dumps(config))
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps(TRANSFORMERS[name]))
    return folder
