#!/bin/sh
# Files that torch and transformers wrote are read, and files that `jepa convert` writes are read by them, with equal values and outputs.
# JEPA_PYTHON names an interpreter that has both; without one this is skipped.
. "$2/tests/e2e/lib.sh"
PY=${JEPA_PYTHON:-python3}
command -v "$PY" >/dev/null 2>&1 || skip "no $PY (JEPA_PYTHON names a Python with torch and transformers)"
"$PY" -c "import torch, transformers, safetensors, numpy" 2>/dev/null || skip "$PY has no torch, transformers or safetensors (JEPA_PYTHON names one that has)"
T=$SRC/tests/e2e/torch_files.py HF=$SRC/tests/data/vectors/vjepa2-hf-tiny
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
export HF_HUB_OFFLINE TRANSFORMERS_VERBOSITY
run 0 "$PY" "$T" make || finish

# ---- what torch.save writes ----
for f in plain prefixed bf16 f16 shared strided bare legacy protocol3 protocol4 protocol5; do
    run 0 "$JEPA" info --json $f.pt
    says out '"embed_dim": *48'
    run 0 "$JEPA" convert $f.pt $f-out.pt --to meta --heads 3 --which target
done
run 0 "$PY" "$T" same base.safetensors *-out.pt
error 3 "posix.system" "$JEPA" info evil.pt
[ ! -e ran ] || fail "a pickle was run"

# ---- VJEPA2Model: to Meta's form, and back ----
run 0 "$JEPA" convert "$HF/model" v.pt --to meta
run 0 "$JEPA" convert v.pt v_hf --to hf --heads 2 --pred-heads 2 --family vjepa2 --config "$HF/model/config.json"
run 0 "$PY" "$T" same "$HF/model" v_hf
run 0 "$JEPA" convert v_hf v2.pt --to meta
run 0 "$PY" "$T" same v.pt v2.pt
n=0
for m in "$HF/model" v_hf v.pt; do
    n=$((n + 1))
    run 0 "$JEPA" embed -m $m --heads 2 --pool none -o v_$n.safetensors clips.safetensors
done
for t in bf16 f16; do
    run 0 "$JEPA" convert "$HF/model" v_$t --to hf --dtype $t
    run 0 "$JEPA" embed -m v_$t --pool none -o e_$t.safetensors clips.safetensors
done
run 0 "$PY" "$T" output clips.safetensors v_hf v_1.safetensors v_hf v_2.safetensors v_hf v_3.safetensors v_bf16 e_bf16.safetensors v_f16 e_f16.safetensors

# ---- IJepaModel ----
run 0 "$JEPA" convert ijepa i.pt --to meta
run 0 "$JEPA" convert ijepa i_hf --to hf
run 0 "$JEPA" convert i.pt i_back --to hf --heads 3 --family ijepa
run 0 "$PY" "$T" same ijepa i_hf i_back
n=0
for m in ijepa ijepa-bin i_back i.pt; do
    n=$((n + 1))
    run 0 "$JEPA" embed -m $m --heads 3 --pool none -o i_$n.safetensors pictures.safetensors
done
run 0 "$PY" "$T" output pictures.safetensors i_hf i_1.safetensors i_hf i_2.safetensors i_hf i_3.safetensors i_hf i_4.safetensors

# ---- a run of ours ----
digits d 4
model m
run 0 "$JEPA" convert m/latest run.pt --to meta
run 0 "$JEPA" convert m/latest run_hf --to hf
run 0 "$JEPA" convert m run_context_hf --to hf --which context
run 0 "$PY" "$T" same m/latest/model.safetensors run.pt
run 0 "$PY" -c "import sys; from transformers import AutoModel; AutoModel.from_pretrained('run_hf')"

# ---- refusals ----
error 2 "is there already" "$JEPA" convert m/latest run_hf --to hf
error 2 "hf or meta" "$JEPA" convert m/latest x
error 2 "one encoder" "$JEPA" convert m/latest x --to hf --which all
V1=$SRC/tests/data/vectors/vjepa1-meta-tiny/checkpoint-uniform.pth.tar
error 3 "no class for V-JEPA 1" "$JEPA" convert "$V1" x --to hf --heads 4
[ ! -e x ] || fail "something was left"
ls -d x.tmp* 2>/dev/null && fail "something half-written was left"
run 0 "$JEPA" convert "$V1" v1.pt --to meta --heads 4
run 0 "$PY" "$T" same "$V1" v1.pt
finish
