#!/bin/sh
# Models of every form that opens: Hugging Face folders against their published features, checkpoints of ours; and those that cannot be used.
. "$2/tests/e2e/lib.sh"
HF=$SRC/tests/data/vectors/vjepa2-hf-tiny
[ -d "$HF/model" ] || skip "no $HF"
digits d 4
model m

# ---- Hugging Face folders: whole, sharded, half precision; the bound is the vectors' own (abs 2e-4) on values of size 1 ----
for form in "model last_hidden_state" "model-sharded last_hidden_state" "model-bf16 bf16_weights.last_hidden_state" "model-fp16 fp16_weights.last_hidden_state"; do
    set -- $form
    run 0 "$JEPA" embed -m "$HF/$1" --pool none -o $1.safetensors "$HF/io.safetensors"
    equal "$("$VALS" --shape $1.safetensors)" "2 32 56" "$1"
    less "$("$VALS" --diff "$HF/io.safetensors" $2 $1.safetensors embeddings)" 1e-4 "$1: features"
done
run 0 "$JEPA" embed -m "$HF/model" --pool none -o ref.safetensors --device ref "$HF/io.safetensors"
less "$("$VALS" --diff "$HF/io.safetensors" last_hidden_state ref.safetensors embeddings)" 1e-5 "ref: features"
run 0 "$JEPA" embed -m "$HF/model" --pool none -o model.safetensors "$HF/io.safetensors"
says err "complete already"
error 2 "pool" "$JEPA" embed -m "$HF/model" -o model.safetensors "$HF/io.safetensors"
cp "$HF/model/model.safetensors" one.safetensors
cp "$HF/model/config.json" config.json
run 0 "$JEPA" embed -m one.safetensors --pool none -o one.h5 "$HF/io.safetensors"
less "$("$VALS" --diff model.safetensors embeddings one.h5 embeddings)" 1e-6 "a .safetensors beside its config.json"
run 0 "$JEPA" embed -m "$HF/model" -o clip.h5 d/clips/000000.mp4
equal "$("$VALS" --shape clip.h5)" "1 56" "a clip through a Hugging Face folder"
error 4 "no tensor pixel_values" "$JEPA" embed -m "$HF/model" -o x.h5 "$HF/model/model.safetensors"
error 4 "multiples of 12" "$JEPA" embed -m m/latest -o x.h5 "$HF/io.safetensors" # 64 pixels, patches of 12
error 2 "by itself" "$JEPA" embed -m "$HF/model" -o x.h5 "$HF/io.safetensors" d/clips.txt

# ---- ours: a run, its latest, a step, a copy; context and target ----
for path in m m/latest m/step-00000002; do
    run 0 "$JEPA" embed -m $path -o "$(echo $path | tr / -).h5" d/clips.txt
done
equal "$("$VALS" --diff m.h5 embeddings m-latest.h5 embeddings)" 0 "a run and its latest"
equal "$("$VALS" --diff m.h5 embeddings m-step-00000002.h5 embeddings)" 0 "a run and its step"
run 0 train tuned --set "data.datasets=[d/clips.txt]" --steps 1 --init m
says err "starting from m"
error 3 "" train tuned2 --set "data.datasets=[d/clips.txt]" --steps 1 --init m --set model.depth=3
error 3 "" train tuned3 --set "data.datasets=[d/clips.txt]" --steps 1 --init "$HF/model"

# ---- what cannot be used: exit 3, one line, the tensor or file named ----
bad() { # TEXT MODEL: the only line on stderr
    error 3 "$1" "$JEPA" embed -m "$2" -o x.h5 d/clips.txt || return
    equal "$(wc -l <err | tr -d ' ')" 1 "lines for $2: $(cat err)"
}
copy() { rm -rf x && cp -r "$HF/$1" x && chmod -R u+w x; }
copy model && head -c 5000 "$HF/model/model.safetensors" >x/model.safetensors
bad "model.safetensors" x
copy model && head -c 3 "$HF/model/model.safetensors" >x/model.safetensors
bad "model.safetensors" x
copy model && head -c 100000 /dev/zero >x/model.safetensors
bad "model.safetensors" x
copy model && : >x/model.safetensors
bad "model.safetensors" x
copy model && rm x/model.safetensors
bad "" x
copy model-sharded && rm "x/$(cd x && ls *00002-of* | head -n 1)"
bad "00002-of" x
copy model && echo "{" >x/config.json
bad "config.json" x
copy model && rm x/config.json
bad "" x
copy model && sed 's/"hidden_size": *[0-9]*/"hidden_size": 64/' "$HF/model/config.json" >x/config.json
bad "" x
copy model && sed 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 3/' "$HF/model/config.json" >x/config.json
bad "" x
copy model && sed 's/"num_attention_heads": *[0-9]*/"num_attention_heads": 5/' "$HF/model/config.json" >x/config.json
bad "" x
copy model && sed 's/"model_type": *"[a-z0-9]*"/"model_type": "bert"/' "$HF/model/config.json" >x/config.json
bad "" x
rm -rf x && mkdir x
bad "" x
error 4 "nowhere: not found" "$JEPA" embed -m nowhere -o x.h5 d/clips.txt
error 2 "which model" "$JEPA" embed -o x.h5 d/clips.txt
error 3 "" "$JEPA" embed -m d/clips/000000.mp4 -o x.h5 d/clips.txt
error 3 "" "$JEPA" embed -m m/log.csv -o x.h5 d/clips.txt
cp -r m broken && head -c 2000 m/latest/model.safetensors >broken/step-00000002/model.safetensors
bad "model.safetensors" broken/step-00000002
[ -e x.h5 ] && fail "something was written"
finish
