#!/bin/sh
# jepa convert: a run as a Hugging Face folder and as a .pt; features stay the same, and nothing half-written is ever left.
. "$2/tests/e2e/lib.sh"
VEC=$SRC/tests/data/vectors
digits d 4
model m
run 0 "$JEPA" frames -m m/latest -o px.safetensors d/clips/000000.mp4 d/clips/000001.mp4 # what the models see, whatever their sampling
run 0 "$JEPA" embed -m m/latest -o m.h5 px.safetensors

# ---- a run of ours ----
run 0 "$JEPA" convert m/latest out_hf --to hf
says out "Hugging Face folder"
run 0 "$JEPA" convert m/latest out.pt --to meta
run 0 "$JEPA" info --json out.pt
says out '"encoder": true, "target_encoder": true, "predictor": true'
run 0 "$JEPA" embed -m out.pt --config m/latest/config.yaml -o pt.h5 px.safetensors
says err "heads"
equal "$("$VALS" --diff m.h5 embeddings pt.h5 embeddings)" 0 "the .pt of a run"
run 0 "$JEPA" embed -m out_hf -o hf.h5 px.safetensors
equal "$("$VALS" --diff m.h5 embeddings hf.h5 embeddings)" 0 "the Hugging Face folder of a run"
run 0 "$JEPA" convert m out_context.pt --to meta --which context --dtype bf16
run 0 "$JEPA" convert out_hf again.pt --to meta
run 0 "$JEPA" convert again.pt again_hf --to hf --config out_hf/config.json
cmp -s out_hf/model.safetensors again_hf/model.safetensors || fail "Hugging Face, Meta, Hugging Face: other bytes"

# ---- published families ----
run 0 "$JEPA" convert "$VEC/ijepa-meta-tiny/checkpoint.pth.tar" i_hf --to hf --heads 3
says err "the predictor is not written"
run 0 "$JEPA" info i_hf
says out "IJepaModel"
run 0 "$JEPA" convert "$VEC/vjepa21-tiny/student.pt" s.pt --to meta --heads 3 --pred-heads 2
run 0 "$JEPA" info --json s.pt
says out '"family": *"vjepa21"'
error 3 "no class for V-JEPA 2.1" "$JEPA" convert "$VEC/vjepa21-tiny/student.pt" x --to hf --heads 3 --pred-heads 2
error 3 "no class for V-JEPA 1" "$JEPA" convert "$VEC/vjepa1-meta-tiny/checkpoint-uniform.pth.tar" x --to hf --heads 4
error 3 "number of attention heads" "$JEPA" convert "$VEC/vjepa2-meta-tiny/checkpoint.pt" x --to hf

# ---- wrong use, and nothing left ----
error 2 "is there already" "$JEPA" convert m/latest out.pt --to meta
error 2 "is there already" "$JEPA" convert m/latest out_hf --to hf
error 2 "hf or meta" "$JEPA" convert m/latest x --to onnx
error 2 "f32, bf16 or f16" "$JEPA" convert m/latest x --to hf --dtype int8
error 2 "one encoder" "$JEPA" convert m/latest x --to hf --which all
error 2 "a model and what to write" "$JEPA" convert m/latest --to hf
error 4 "" "$JEPA" convert m/latest no/such/folder/x.pt --to meta
ls -d x* no *.tmp* 2>/dev/null && fail "something was left"
finish
