/* test_train_step.c: what a step of V-JEPA 1 and of I-JEPA does beside V-JEPA 2's: fixed tables, mask tokens, target blocks. */
#include "test_encoder_common.h"
#include "train/train.h"

typedef struct job {
    dev *d;
    train *t;
    train_cfg c;
    float *x;
    train_batch b;
    const mask_set *masks[3];
} job;

enum { CLIPS = 2, BLOCKS = 3 };
static int32_t context[CLIPS * 3] = {0, 3, 4, 7, 8, 11}, target[BLOCKS * CLIPS * 2] = {1, 2, 0, 5, 5, 6, 1, 9, 10, 11, 2, 3};
static const mask_set one = {.batch = CLIPS, .n_context = 3, .n_target = 2, .num_targets = 1, .context = context, .target = target};
static const mask_set several = {
    .batch = CLIPS, .n_context = 3, .n_target = 2, .num_targets = BLOCKS, .context = context, .target = target};

static void open_job(job *j, int images) {
    jepa_err err = {0};
    memset(j, 0, sizeof *j);
    train_cfg_defaults(&j->c);
    train_cfg *c = &j->c;
    tiny_cfg(&c->enc);
    c->enc.positions = POS_SINCOS;
    c->enc.uniform_power = 1;
    if (images) c->enc.img_height = 12, c->enc.img_width = 16, c->enc.num_frames = c->enc.tubelet_size = 1, c->enc.columns_first = 1;
    pred_cfg_defaults(&c->pred, &c->enc);
    c->pred.predictor_embed_dim = 24, c->pred.depth = 1, c->pred.num_heads = 2, c->pred.num_mask_tokens = images ? 1 : 3;
    c->pred.single_mask_token = c->pred.columns_first = images;
    c->pred.uniform_power = 1;
    c->pred.frames = images ? 1 : 2, c->pred.rows = images ? 3 : 2, c->pred.cols = images ? 4 : 3;
    c->smooth_l1 = images;
    c->mask_token_rule = images ? TOKEN_BY_CLIP_LENGTH : TOKEN_BY_GENERATOR;
    c->sched = (sched_cfg){.kind = SCHED_WARMUP_COSINE,
                           .iterations_per_epoch = 4,
                           .epochs = 4,
                           .start_lr = 0.01,
                           .lr = 0.01,
                           .final_lr = 0.01,
                           .weight_decay = 0.1,
                           .final_weight_decay = 0.1,
                           .ipe_scale = 1,
                           .ema_start = 0.9,
                           .ema_end = 0.9};
    c->feed.batch = CLIPS;
    j->x = numbers(CLIPS * 3 * 4 * 12 * 16, 9, -2, 2);
    for (int g = 0; g < 3; g++) j->masks[g] = images ? &several : &one;
    j->b = (train_batch){.batch = CLIPS,
                         .frames = c->enc.num_frames,
                         .height = c->enc.img_height,
                         .width = c->enc.img_width,
                         .x = j->x,
                         .type = T_F32,
                         .n_gen = images ? 1 : 2,
                         .masks = j->masks};
    must(dev_open(&j->d, "ref", 1, &err));
    must(train_open(&j->t, c, j->d, &err));
    must(train_init(j->t, &err));
}

static void close_job(job *j) {
    train_close(&j->t);
    dev_close(&j->d);
    train_cfg_free(&j->c);
    mem_free(j->x);
}

static float *values(params *p, const char *name, int64_t *n) {
    const int k = params_find(p, name);
    if (k < 0) fail_msg("no %s", name);
    *n = p->item[k].count;
    return param_value(p, k);
}

static void tables_stay_and_are_copied(void **s) {
    for (int images = 0; images < 2; images++) {
        job j;
        jepa_err err = {0};
        train_numbers num;
        int64_t n, m;
        open_job(&j, images);
        float *own = values(train_params(j.t), "encoder.pos_embed", &n),
              *theirs = values(train_target(j.t), "target_encoder.pos_embed", &n);
        float *narrow = values(train_params(j.t), "predictor.predictor_pos_embed", &m);
        float *was = mem_alloc((size_t)n, sizeof *was), *narrow_was = mem_alloc((size_t)m, sizeof *was);
        memcpy(was, own, (size_t)n * sizeof *was);
        memcpy(narrow_was, narrow, (size_t)m * sizeof *was);
        same_bits(theirs, was, n); /* the initial copy */
        int64_t w;
        float *weight = values(train_target(j.t), "target_encoder.blocks.1.attn.qkv.weight", &w), before = weight[5];
        for (int i = 0; i < 3; i++) {
            must(train_step(j.t, &j.b, 1, &num, &err));
            assert_true(num.finite && num.loss > 0);
            same_bits(own, was, n);
            same_bits(narrow, narrow_was, m);
            same_bits(theirs, was, n); /* averaged, some would be a rounding off */
        }
        assert_true(weight[5] != before);
        theirs[3] = 77; /* copied, not averaged */
        must(train_step(j.t, &j.b, 1, &num, &err));
        same_bits(theirs, was, n);
        mem_free(was);
        mem_free(narrow_was);
        close_job(&j);
    }
}

static void only_the_tokens_in_use_move(void **s) {
    job j;
    jepa_err err = {0};
    train_numbers num;
    int64_t n;
    open_job(&j, 0);
    float *token[3];
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "predictor.mask_tokens.%d", i);
        token[i] = values(train_params(j.t), name, &n);
        for (int k = 0; k < n; k++) token[i][k] = 0.5f;
    }
    must(train_step(j.t, &j.b, 1, &num, &err)); /* two generators: tokens 0 and 1 */
    assert_true(token[0][0] != 0.5f && token[1][0] != 0.5f);
    for (int k = 0; k < n; k++) assert_true(token[2][k] == 0.5f); /* not decayed either */
    const float one_step = token[1][0];
    j.b.n_gen = 1;
    must(train_step(j.t, &j.b, 1, &num, &err));
    assert_true(token[1][0] == one_step);
    j.b.n_gen = 3;
    must(train_step(j.t, &j.b, 1, &num, &err));
    assert_true(token[2][0] != 0.5f);
    close_job(&j);
}

/* The loss over three blocks is the mean of the losses of three steps' first halves with a block each, and so are the gradients. */
static void blocks_add_up(void **s) {
    job j;
    jepa_err err = {0};
    train_numbers num;
    open_job(&j, 1);
    params *p = train_params(j.t);
    must(train_gradients(j.t, &j.b, 1, &num, &err));
    const double whole = num.loss;
    float *grad = mem_alloc((size_t)p->total, sizeof *grad);
    memcpy(grad, p->grad.p, (size_t)p->total * sizeof *grad);
    double sum = 0, most = 0, off = 0, *parts = mem_alloc((size_t)p->total, sizeof *parts);
    for (int k = 0; k < BLOCKS; k++) {
        mask_set m = one;
        m.target = target + k * CLIPS * 2;
        j.masks[0] = &m;
        must(train_gradients(j.t, &j.b, 1, &num, &err));
        sum += num.loss / BLOCKS;
        for (int64_t i = 0; i < p->total; i++) parts[i] += ((const float *)p->grad.p)[i] / (double)BLOCKS;
    }
    for (int64_t i = 0; i < p->total; i++) most = fmax(most, fabs(grad[i])), off = fmax(off, fabs(parts[i] - grad[i]));
    assert_true(fabs(sum - whole) < 1e-6 * whole && off < 1e-6 * most && most > 1e-3); /* float32, three sums in another order */
    mem_free(grad);
    mem_free(parts);
    mask_set bad = several;
    bad.num_targets = 65;
    j.masks[0] = &bad;
    refused(train_gradients(j.t, &j.b, 1, &num, &err), JEPA_E_USE, &err, "65 x 2 target tokens");
    close_job(&j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_stay_and_are_copied),
        cmocka_unit_test(only_the_tokens_in_use_move),
        cmocka_unit_test(blocks_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
