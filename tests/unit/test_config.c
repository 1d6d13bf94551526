/* Training configurations: ours, published ones, what is refused and by which words, and config.yaml that reads back to the same. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/yaml.h"
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIGS TEST_DATA "/../../configs/"

static int countdown = -1; /* the n-th fault point fails; -1: none */
int fault_point(const char *name) { return countdown >= 0 && countdown-- == 0 ? 12 : 0; }

static char folder[] = "/tmp/jepa-config-XXXXXX";
static int setup(void **state) { return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1; }
static int teardown(void **state) {
    static const char *const made[] = {"a.yaml", "b.yaml", "clips.txt", "sub/clips.txt", "sub/a.yaml", "sub/only.txt", "sub"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) unlink(made[i]), rmdir(made[i]);
    return chdir("/") || rmdir(folder);
}

static void put(const char *path, const char *text) { assert_int_equal(file_write_atomic(path, text, strlen(text), NULL), 0); }

static void get(train_cfg *c, const char *path, const char *const *sets, int n) {
    jepa_err err = {0};
    if (train_cfg_read(c, path, sets, n, &err)) fail_msg("%s", err.text);
}

/* as the published files are written (names and shape of V-JEPA 2's; numbers of no particular one) */
static const char published[] = "app: vjepa\nnodes: 2\ntasks_per_node: 4\ncpus_per_task: 16\nmem_per_gpu: 220G\nfolder: /some/run\n"
                                "data:\n  dataset_type: VideoDataset\n  datasets:\n  - /data/a.csv\n  - /data/b.csv\n  - /data/c.csv\n  "
                                "datasets_weights:\n  - 0.25\n  - 0.25\n  - 0.5\n"
                                "  batch_size: 24\n  crop_size: 256\n  patch_size: 16\n  dataset_fpcs:\n  - 16\n  - 16\n  - 16\n  "
                                "tubelet_size: 2\n  fps: 4\n  num_workers: 8\n"
                                "  persistent_workers: true\n  pin_mem: true\n"
                                "data_aug:\n  auto_augment: false\n  motion_shift: false\n  random_resize_aspect_ratio:\n  - 0.75\n  - "
                                "1.35\n  random_resize_scale:\n  - 0.3\n  - 1.0\n  reprob: 0.0\n"
                                "loss:\n  loss_exp: 1.0\n"
                                "mask:\n- aspect_ratio:\n  - 0.75\n  - 1.5\n  full_complement: false\n  max_keep: null\n  "
                                "max_temporal_keep: 1.0\n  num_blocks: 8\n  spatial_scale:\n  - 0.15\n"
                                "  - 0.15\n  temporal_scale:\n  - 1.0\n  - 1.0\n- aspect_ratio:\n  - 0.75\n  - 1.5\n  full_complement: "
                                "true\n  max_keep: 100\n  max_temporal_keep: 0.5\n"
                                "  num_blocks: 2\n  spatial_scale:\n  - 0.7\n  - 0.7\n  temporal_scale:\n  - 0.5\n  - 1.0\n"
                                "meta:\n  dtype: bfloat16\n  eval_freq: 100\n  load_checkpoint: true\n  read_checkpoint: null\n  "
                                "save_every_freq: 50\n  seed: 239\n  use_sdpa: true\n"
                                "model:\n  model_name: vit_large\n  pred_depth: 12\n  pred_embed_dim: 384\n  pred_num_heads: 12\n  "
                                "uniform_power: true\n  use_activation_checkpointing: true\n"
                                "  use_mask_tokens: true\n  use_rope: true\n  zero_init_mask_tokens: true\n"
                                "optimization:\n  ema:\n  - 0.99\n  - 1.0\n  epochs: 10\n  final_lr: 0.0001\n  final_weight_decay: 0.4\n  "
                                "ipe: 300\n  ipe_scale: 1.25\n  lr: 0.000525\n"
                                "  start_lr: 0.0001\n  warmup: 40\n  weight_decay: 0.04\n";
static const char *const f32 = "meta.dtype=float32";

static void tiny(void **state) {
    train_cfg c;
    get(&c, CONFIGS "tiny.yaml", NULL, 0);
    assert_string_equal(c.model_name, "custom");
    assert_true(c.enc.img_height == 48 && c.enc.img_width == 48 && c.enc.patch_size == 12 && c.enc.tubelet_size == 2 &&
                c.enc.num_frames == 16);
    assert_true(c.enc.embed_dim == 96 && c.enc.depth == 4 && c.enc.num_heads == 3 && c.enc.mlp_ratio == 4 &&
                c.enc.positions == POS_ROPE_TILED);
    assert_true(c.enc.layer_norm_eps == 1e-6 && c.enc.in_chans == 3);
    assert_int_equal(enc_tokens(&c.enc, 16, 48, 48), 128);
    assert_true(c.pred.embed_dim == 96 && c.pred.out_dim == 96 && c.pred.predictor_embed_dim == 48 && c.pred.depth == 2 &&
                c.pred.num_heads == 2);
    assert_true(c.pred.num_mask_tokens == 1 && c.pred.positions == POS_ROPE_TILED && c.pred.mlp_ratio == 4);
    assert_int_equal(c.n_masks, 2);
    assert_true(c.mask[0].num_blocks == 4 && c.mask[0].spatial_scale[0] == 0.15 && c.mask[0].spatial_scale[1] == 0.15);
    assert_true(c.mask[1].num_blocks == 1 && c.mask[1].spatial_scale[0] == 0.5 && c.mask[1].spatial_scale[1] == 0.5);
    for (int i = 0; i < 2; i++) {
        assert_true(c.mask[i].kind == MASK_MULTIBLOCK3D && c.mask[i].temporal_scale[0] == 1 && c.mask[i].temporal_scale[1] == 1);
        assert_true(c.mask[i].aspect_ratio[0] == 0.75 && c.mask[i].aspect_ratio[1] == 1.5 && c.mask[i].max_temporal_keep == 1 &&
                    c.mask[i].max_keep == 0);
    }
    assert_true(c.loss_exp == 1 && c.beta1 == 0.9 && c.beta2 == 0.999 && c.adam_eps == 1e-8 && c.init_sd == 0.08 && c.clip_grad == 0);
    assert_true(c.feed.batch == 16 && c.accumulate == 1 && c.steps == 1200 && c.recompute_level == RECOMPUTE_NONE);
    assert_true(c.feed.crop == 48 && c.feed.flip == 0 && c.feed.eval == 0 && c.feed.scale[0] == 1 && c.feed.scale[1] == 1 &&
                c.feed.ratio[0] == 1 && c.feed.ratio[1] == 1);
    assert_true(c.feed.sample.frames == 16 && c.feed.sample.fps == 0 && c.feed.sample.duration == 0 && c.feed.sample.frame_step == 1 &&
                c.feed.sample.num_clips == 1);
    assert_true(c.save_every == 200 && c.log_every == 10 && c.monitor_every == 20 && c.seed == 0);
    assert_true(c.n_datasets == 1 && !c.has_weights && c.folder[0] == 0);
    double lr, wd, ema;
    sched_at(&c.sched, 120, &lr, &wd, &ema); /* the end of the first 10 % */
    assert_true(lr == 1.5e-3 && wd == 0.04);
    sched_at(&c.sched, 60, &lr, NULL, NULL);
    assert_float_equal(lr, (1e-5 + 1.5e-3) / 2, 1e-12);
    sched_at(&c.sched, 1200, &lr, NULL, NULL);
    assert_float_equal(lr, 1e-5, 1e-12);
    sched_at(&c.sched, 1, NULL, NULL, &ema);
    assert_true(ema == 0.99);
    sched_at(&c.sched, 1201, NULL, NULL, &ema);
    assert_float_equal(ema, 0.998, 1e-12);
    train_cfg_free(&c);
    train_cfg_free(&c);
}

static void vitl(void **state) {
    train_cfg c;
    get(&c, CONFIGS "vitl16-256.yaml", NULL, 0);
    assert_true(c.enc.embed_dim == 1024 && c.enc.depth == 24 && c.enc.num_heads == 16 && c.enc.img_height == 256 && c.enc.num_frames == 16);
    assert_true(c.pred.predictor_embed_dim == 384 && c.pred.depth == 12 && c.pred.num_heads == 12 && c.pred.num_mask_tokens == 10);
    assert_true(c.feed.batch * c.accumulate == 3072 && c.steps == 240000 && c.feed.flip == 1 && c.feed.sample.fps == 4 &&
                c.feed.sample.random == 1);
    assert_true(c.mask[0].num_blocks == 8 && c.mask[1].num_blocks == 2 && c.mask[1].spatial_scale[1] == 0.7 && c.save_every == 300);
    double lr;
    sched_at(&c.sched, 12000, &lr, NULL, NULL);
    assert_true(lr == 5.25e-4);
    sched_at(&c.sched, 240000, &lr, NULL, NULL);
    assert_true(lr == 5.25e-4);
    train_cfg_free(&c);
}

static void published_file(void **state) {
    train_cfg c;
    jepa_err err = {0};
    put("a.yaml", published);
    const char *f16 = "meta.dtype=float16";
    assert_int_equal(train_cfg_read(&c, "a.yaml", &f16, 1, &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "meta.dtype: training runs in float32 or bfloat16, not in float16"));
    get(&c, "a.yaml", &f32, 1);
    assert_int_equal(c.type, T_F32);
    train_cfg_free(&c);
    get(&c, "a.yaml", NULL, 0); /* bfloat16, as it stands there */
    assert_int_equal(c.type, T_BF16);
    assert_true(c.accumulate == 8 && c.feed.batch == 24 && c.steps == 3000 && c.seed == 239 && c.feed.seed == 239);
    assert_true(c.save_every == 15000 && c.save_every_epochs == 50); /* epochs there */
    assert_true(c.n_datasets == 3 && c.has_weights && c.dataset_weight[2] == 0.5 && !strcmp(c.datasets[1], "/data/b.csv"));
    assert_int_equal(c.pred.num_mask_tokens, 6); /* generators times entries of dataset_fpcs */
    assert_true(c.recompute_level == RECOMPUTE_BLOCK && c.feed.flip == 1 && c.feed.scale[0] == 0.3 && c.feed.ratio[1] == 1.35 &&
                c.feed.threads == 8);
    assert_true(c.mask[1].max_keep == 100 && c.mask[1].full_complement == 1 && c.mask[1].max_temporal_keep == 0.5 &&
                c.mask[1].temporal_scale[0] == 0.5);
    assert_true(c.sched.kind == SCHED_WARMUP_COSINE && c.sched.warmup_epochs == 40 && c.sched.ipe_scale == 1.25 &&
                c.sched.iterations_per_epoch == 300);
    assert_true(c.sched.final_weight_decay == 0.4 && c.sched.ema_end == 1 && c.sched.final_lr == 1e-4);
    assert_string_equal(c.folder, "/some/run");
    assert_string_equal(c.notes, "read, not used: cpus_per_task, mem_per_gpu, data.persistent_workers, data.pin_mem, meta.eval_freq, "
                                 "meta.load_checkpoint, meta.use_sdpa");
    train_cfg_free(&c);
    const char *more[] = {"meta.dtype=float32",  "optimization.ipe=null", "optimization.is_anneal=true",
                          "mask.0.num_blocks=3", "model.recompute=mlp",   "optimization.clip_grad=10"};
    get(&c, "a.yaml", more, 6);
    assert_true(c.steps == 0 && c.sched.iterations_per_epoch == 0 && c.save_every >= 1 &&
                c.save_every_epochs == 50); /* known once the data are */
    assert_true(c.sched.kind == SCHED_LINEAR_DECAY && c.mask[0].num_blocks == 3 && c.recompute_level == RECOMPUTE_MLP && c.clip_grad == 10);
    train_cfg_free(&c);
}

static void vjepa1_keys(void **state) {
    train_cfg c;
    const char *sets[] = {"meta.dtype=float32",
                          "data.fps=null",
                          "data.dataset_fpcs=null",
                          "data.num_frames=8",
                          "data.sampling_rate=4",
                          "data.clip_duration=null",
                          "data.num_clips=1",
                          "data.decode_one_clip=true",
                          "data.filter_short_videos=true",
                          "loss.reg_coeff=0.0",
                          "model.pred_num_heads=null",
                          "meta.save_every_freq=-1"};
    put("a.yaml", published);
    get(&c, "a.yaml", sets, 12);
    assert_true(c.feed.sample.frames == 8 && c.feed.sample.frame_step == 4 && c.feed.sample.fps == 0 && c.feed.sample.reject_short == 1);
    assert_int_equal(c.pred.num_heads, 16); /* null: as many as the encoder */
    assert_int_equal(c.save_every, 2147483647);
    train_cfg_free(&c);
    sets[4] = "data.clip_duration=3.5", sets[5] = "data.frame_step=null";
    get(&c, "a.yaml", sets, 12);
    assert_true(c.feed.sample.duration == 3.5 && c.feed.sample.raw_fps == 1);
    train_cfg_free(&c);
}

static void other_masks(void **state) {
    train_cfg c;
    const char *sets[] = {"meta.dtype=float32", "mask=[{type: tube, ratio: 0.9}, {type: causal, from: 4}]"};
    put("a.yaml", published);
    get(&c, "a.yaml", sets, 2);
    assert_true(c.n_masks == 2 && c.mask[0].kind == MASK_TUBE && c.mask[0].ratio == 0.9 && c.mask[1].kind == MASK_CAUSAL &&
                c.mask[1].from == 4);
    train_cfg_free(&c);
    const char *ijepa[] = {"meta.dtype=float32", "data.dataset_fpcs=[2]",
                           "mask={allow_overlap: false, aspect_ratio: [0.75, 1.5], enc_mask_scale: [0.85, 1.0], min_keep: 10, "
                           "num_enc_masks: 1, num_pred_masks: 4, patch_size: 16, pred_mask_scale: [0.15, 0.2]}",
                           "mask.full_grid=true"};
    get(&c, "a.yaml", ijepa, 4);
    assert_true(c.n_masks == 1 && c.mask[0].kind == MASK_MULTIBLOCK2D && c.mask[0].min_keep == 10 && c.mask[0].full_grid == 1 &&
                c.mask[0].num_pred_masks == 4);
    train_cfg_free(&c);
}

/* a setting, the code, and words that the message must hold */
static void refusals(void **state) {
    static const struct {
        const char *set;
        int code;
        const char *words;
    } t[] = {
        {"dato.fps=4", JEPA_E_MODEL, "--set dato: unknown key; did you mean data?"},
        {"data.fpss=4", JEPA_E_MODEL, "--set data.fpss: unknown key; did you mean data.fps?"},
        {"data.zebra_crossing=4", JEPA_E_MODEL, "data.zebra_crossing: unknown key"},
        {"mask.0.num_block=4", JEPA_E_MODEL, "mask.0.num_block: unknown key; did you mean num_blocks?"},
        {"logging.folder=x", JEPA_E_MODEL, "folder: at the top"},
        {"data=3", JEPA_E_MODEL, "a section with keys"},
        {"mask=3", JEPA_E_MODEL, "a list of 1 to 8 generators"},
        {"mask=[]", JEPA_E_MODEL, "a list of 1 to 8 generators"},
        {"mask=[3]", JEPA_E_MODEL, "mask.0: a generator with keys"},
        {"mask=null", JEPA_E_MODEL, "mask: is missing"},
        {"app=vjepa_2_1", JEPA_E_MODEL, "vjepa_2_1 is not supported, only vjepa"},
        {"data.fps", JEPA_E_USE, "section.key=value"},
        {"=3", JEPA_E_USE, "section.key"},
        {"data.fps=[1", JEPA_E_USE, "not a value in YAML"},
        {"data.fps.x=1", JEPA_E_USE, "is a value, not a section"},
        {"mask.7.num_blocks=1", JEPA_E_USE, "list of 2"},
        {"nodes=0", JEPA_E_MODEL, "nodes: 0 is no whole number from 1"},
        {"nodes=65536", JEPA_E_MODEL, "4096 are possible"},
        {"data.batch_size=null", JEPA_E_MODEL, "data.batch_size: is missing"},
        {"data.batch_size=-1", JEPA_E_MODEL, "-1 is no whole number"},
        {"data.batch_size=1e9", JEPA_E_MODEL, "1e9 is no whole number from 1 to 65536"},
        {"data.batch_size=x", JEPA_E_MODEL, "x is no whole number"},
        {"data.crop_size=250", JEPA_E_MODEL, "250 is no multiple of data.patch_size 16"},
        {"data.dataset_fpcs=[16, 64, 16]", JEPA_E_MODEL, "several clip lengths"},
        {"data.dataset_fpcs=[15]", JEPA_E_MODEL, "15 frames are no multiple"},
        {"data.dataset_fpcs=[]", JEPA_E_MODEL, "a list of frames"},
        {"data.frame_step=4", JEPA_E_MODEL, "data.fps says already"},
        {"data.fps=null", JEPA_E_MODEL, "data.fps: is missing"},
        {"data.fps=0", JEPA_E_MODEL, "0 is no number"},
        {"data.num_frames=8", JEPA_E_MODEL, "data.dataset_fpcs says it already"},
        {"data.dataset_type=ImageNet", JEPA_E_MODEL, "only VideoDataset"},
        {"data.datasets_weights=[1, 2]", JEPA_E_MODEL, "one weight for each of the 3"},
        {"data.datasets_weights=[1, 2, 0]", JEPA_E_MODEL, "a weight above 0"},
        {"data.datasets=[[a]]", JEPA_E_MODEL, "a path was expected"},
        {"data.num_clips=2", JEPA_E_MODEL, "only 1"},
        {"data_aug.auto_augment=true", JEPA_E_MODEL, "data_aug.auto_augment: true is not supported, only false"},
        {"data_aug.motion_shift=yes", JEPA_E_MODEL, "not supported"},
        {"data_aug.reprob=0.25", JEPA_E_MODEL, "0.25 is not supported, only 0"},
        {"data_aug.random_resize_scale=[1, 0.3]", JEPA_E_MODEL, "must not fall"},
        {"data_aug.random_resize_scale=1", JEPA_E_MODEL, "a list of two numbers"},
        {"data_aug.horizontal_flip=maybe", JEPA_E_MODEL, "neither true nor false"},
        {"loss.loss_exp=0", JEPA_E_MODEL, "loss.loss_exp: 0 is no number"},
        {"loss.reg_coeff=1", JEPA_E_MODEL, "variance term"},
        {"mask.0.num_blocks=0", JEPA_E_MODEL, "mask.0.num_blocks: 0"},
        {"mask.0.spatial_scale=[0.7, 0.1]", JEPA_E_MODEL, "spatial_scale"},
        {"mask.0.spatial_scale=[0.001, 0.15]", JEPA_E_MODEL, "8x16x16"},
        {"mask.0.type=stripes", JEPA_E_MODEL, "known: multiblock3d, tube, causal"},
        {"mask.0.type=tube", JEPA_E_MODEL, "does not have it"},
        {"mask.0.ratio=0.5", JEPA_E_MODEL, "does not have it"},
        {"mask.0.max_keep=0", JEPA_E_MODEL, "mask.0.max_keep"},
        {"meta.dtype=float16", JEPA_E_MODEL, "not in float16"},
        {"meta.read_checkpoint=a.pt", JEPA_E_MODEL, "--resume PATH or --init"},
        {"meta.seed=-1", JEPA_E_MODEL, "meta.seed"},
        {"meta.save_every_freq=0", JEPA_E_MODEL, "meta.save_every_freq"},
        {"model.model_name=vit_enormous", JEPA_E_MODEL, "vit_enormous"},
        {"model.model_name=custom", JEPA_E_MODEL, "model.embed_dim: is missing"},
        {"model.embed_dim=96", JEPA_E_MODEL, "model_name: custom lets it"},
        {"model.use_rope=false", JEPA_E_MODEL, "use_rope: true"},
        {"model.use_silu=true", JEPA_E_MODEL, "GELU"},
        {"model.use_mask_tokens=false", JEPA_E_MODEL, "mask tokens"},
        {"model.pred_num_heads=7", JEPA_E_MODEL, "7"},
        {"model.recompute=all", JEPA_E_MODEL, "known: none, mlp, block"},
        {"model.pred_is_frame_causal=true", JEPA_E_MODEL, "sees all frames"},
        {"optimization.lr=null", JEPA_E_MODEL, "optimization.lr: is missing"},
        {"optimization.lr=-1", JEPA_E_MODEL, "-1 is no number"},
        {"optimization.lr=.nan", JEPA_E_MODEL, ".nan is no number"},
        {"optimization.epochs=0", JEPA_E_MODEL, "optimization.epochs"},
        {"optimization.ema=[0.9, 1.1]", JEPA_E_MODEL, "both must be from 0 to 1"},
        {"optimization.ema=0.9", JEPA_E_MODEL, "a list of two numbers"},
        {"optimization.anneal_ckpt=x.pt", JEPA_E_MODEL, "--init MODEL"},
    };
    put("a.yaml", published);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        train_cfg c;
        jepa_err err = {0};
        const char *sets[2] = {f32, t[i].set};
        int rc = train_cfg_read(&c, "a.yaml", sets, 2, &err);
        if (rc != t[i].code || !strstr(err.text, t[i].words)) fail_msg("--set %s: %d \"%s\"", t[i].set, rc, err.text);
        assert_null(c.resolved); /* nothing is left half-built */
    }
}

static void lines(void **state) {
    train_cfg c;
    jepa_err err = {0};
    put("b.yaml", "app: vjepa\ndata:\n  batch_size: 4\n  batch_sise: 5\n");
    assert_int_equal(train_cfg_read(&c, "b.yaml", NULL, 0, &err), JEPA_E_MODEL);
    assert_string_equal(err.text, "b.yaml:4: data.batch_sise: unknown key; did you mean data.batch_size?");
    assert_string_equal(err.file, "b.yaml");
    put("b.yaml", "data:\n  batch_size: 4\n  reprob: 1\ndata_aug:\n  reprob: 1\n");
    assert_int_equal(train_cfg_read(&c, "b.yaml", NULL, 0, &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "b.yaml:3: data.reprob: unknown key; did you mean data_aug.reprob?"));
    put("b.yaml", "a: 1\na: 2\n");
    assert_int_equal(train_cfg_read(&c, "b.yaml", NULL, 0, &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "b.yaml:2"));
    put("b.yaml", "- a\n");
    assert_int_equal(train_cfg_read(&c, "b.yaml", NULL, 0, &err), JEPA_E_MODEL);
    put("b.yaml", "");
    assert_int_equal(train_cfg_read(&c, "b.yaml", NULL, 0, &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "is missing"));
    assert_int_equal(train_cfg_read(&c, "none.yaml", NULL, 0, &err), JEPA_E_IO);
    /* a mask that cannot work is found before anything is trained, at the generator's line */
    put("a.yaml", published);
    const char *sets[] = {f32, "data.crop_size=32", "data.dataset_fpcs=[2]"};
    assert_int_equal(train_cfg_read(&c, "a.yaml", sets, 3, &err), JEPA_E_MODEL);
    assert_non_null(strstr(err.text, "a.yaml:42: mask: on a grid of 1x2x2 tokens spatial_scale [0.15, 0.15]"));
}

/* all values; pointers, the file's name and padding apart */
static void same(const train_cfg *a, const train_cfg *b) {
    assert_memory_equal(&a->enc, &b->enc, sizeof a->enc);
    assert_memory_equal(&a->pred, &b->pred, sizeof a->pred);
    assert_memory_equal(a->mask, b->mask, sizeof a->mask);
    assert_memory_equal(&a->sched, &b->sched, sizeof a->sched);
    assert_memory_equal(&a->feed, &b->feed, sizeof a->feed);
    assert_memory_equal(a->dataset_weight, b->dataset_weight, sizeof a->dataset_weight);
    assert_true(a->n_masks == b->n_masks && a->loss_exp == b->loss_exp && a->beta1 == b->beta1 && a->beta2 == b->beta2 &&
                a->adam_eps == b->adam_eps);
    assert_true(a->init_sd == b->init_sd && a->clip_grad == b->clip_grad && a->n_datasets == b->n_datasets &&
                a->has_weights == b->has_weights);
    assert_true(a->accumulate == b->accumulate && a->steps == b->steps && a->save_every == b->save_every &&
                a->save_every_epochs == b->save_every_epochs);
    assert_true(a->log_every == b->log_every && a->monitor_every == b->monitor_every && a->keep_last == b->keep_last && a->seed == b->seed);
    assert_true(a->recompute_level == b->recompute_level);
    assert_string_equal(a->model_name, b->model_name);
    assert_string_equal(a->folder, b->folder);
    assert_string_equal(a->notes, b->notes);
    for (int i = 0; i < a->n_datasets; i++) assert_string_equal(a->datasets[i], b->datasets[i]);
}

static void reads_back(void **state) {
    static const char *const more[][4] = {
        {"meta.dtype=float32", "data.max_bad=0.123456789012345", "meta.seed=9007199254740993", "folder=2024"},
        {"meta.dtype=float32", "optimization.ipe=null", "model.num_mask_tokens=3", "data.datasets=[\"x: y\", 7, ü]"},
        {"meta.dtype=float32", "mask=[{type: tube, ratio: 0.75}]", "data_aug.eval_transform=on", "data.datasets_weights=null"}};
    put("a.yaml", published);
    for (int i = 0; i < 5; i++) {
        train_cfg a, b;
        char *text, *again;
        size_t n, m;
        jepa_err err = {0};
        const char *sets[5];
        if (i < 3) {
            memcpy(sets, more[i], sizeof more[i]);
            sets[4] = i == 1 ? "data.datasets_weights=[1, 2, 3e-1]" : "loss={}";
            get(&a, "a.yaml", sets, 5);
        } else {
            get(&a, i == 3 ? CONFIGS "tiny.yaml" : CONFIGS "vitl16-256.yaml", NULL, 0);
        }
        assert_int_equal(yaml_write(a.resolved, &text, &n, &err), 0);
        put("b.yaml", text);
        get(&b, "b.yaml", NULL, 0);
        same(&a, &b);
        assert_int_equal(yaml_write(b.resolved, &again, &m, &err), 0);
        assert_string_equal(text, again); /* nothing is left to fill in */
        mem_free(text), mem_free(again);
        train_cfg_free(&a), train_cfg_free(&b);
    }
}

static void dataset_paths(void **state) {
    train_cfg c;
    char want[300];
    assert_int_equal(dir_make("sub", NULL), 0);
    put("clips.txt", "here\n");
    put("sub/clips.txt", "beside\n");
    put("sub/only.txt", "beside\n");
    put("sub/a.yaml", published);
    const char *sets[] = {f32, "data.datasets=[clips.txt, only.txt, nowhere.txt]"};
    get(&c, "sub/a.yaml", sets, 2); /* --set: the working folder first */
    snprintf(want, sizeof want, "%s/clips.txt", folder);
    assert_string_equal(c.datasets[0], want);
    snprintf(want, sizeof want, "%s/sub/only.txt", folder);
    assert_string_equal(c.datasets[1], want);
    assert_string_equal(c.datasets[2], "nowhere.txt"); /* fails when it is opened, by its name as written */
    assert_string_equal(yaml_at(c.resolved, "data.datasets.1")->text, want);
    train_cfg_free(&c);
    char *text = strdup(published), *at = strstr(text, "/data/a.csv");
    memcpy(at, "  clips.txt", 11);
    put("sub/a.yaml", text);
    free(text);
    get(&c, "sub/a.yaml", sets, 1); /* in the file: beside it first */
    snprintf(want, sizeof want, "%s/sub/clips.txt", folder);
    assert_string_equal(c.datasets[0], want);
    train_cfg_free(&c);
}

/* every allocation and read fails once: no crash, no leak (the address sanitizer says), an error each time */
static void no_memory(void **state) {
    put("a.yaml", published);
    for (int n = 0;; n++) {
        train_cfg c;
        jepa_err err = {0};
        countdown = n;
        int rc = train_cfg_read(&c, "a.yaml", &f32, 1, &err);
        int reached = countdown < 0;
        countdown = -1;
        if (rc == 0) {
            train_cfg_free(&c);
            assert_false(reached); /* no failure was swallowed */
            assert_true(n > 100);
            return;
        }
        assert_true(rc == JEPA_E_MEMORY || rc == JEPA_E_IO);
        assert_null(c.resolved);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiny),        cmocka_unit_test(vitl),        cmocka_unit_test(published_file),
                                       cmocka_unit_test(vjepa1_keys), cmocka_unit_test(other_masks), cmocka_unit_test(refusals),
                                       cmocka_unit_test(lines),       cmocka_unit_test(reads_back),  cmocka_unit_test(dataset_paths),
                                       cmocka_unit_test(no_memory)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
