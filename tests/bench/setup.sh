#!/bin/sh
# The peers that jepa is measured beside, in a virtual environment of their own: sh tests/bench/setup.sh [FOLDER]   (about 5 GB to fetch)
# timm, einops and pyyaml are what Meta's published modules import; compare.sh takes a clone of those: git clone https://github.com/facebookresearch/vjepa2
# Never needed to build, test or use jepa.
set -eu
dir=${1:-${JEPA_PEER:-build/peer}}
python3 -m venv "$dir"
"$dir/bin/pip" install -q torch torchvision transformers av torchcodec h5py numpy safetensors pillow openvino timm einops pyyaml
"$dir/bin/python" -c 'import torch, transformers, torchcodec, av, openvino, timm, einops, yaml; print("torch", torch.__version__, "transformers", transformers.__version__, "torchcodec", torchcodec.__version__, "PyAV", av.__version__, "OpenVINO", openvino.__version__)'
echo "JEPA_PEER=$dir"
