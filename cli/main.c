/* main.c: the `jepa` program: finds the subcommand, catches signals, turns results into exit codes. */
#include "cli/cli.h"
#include "infer/jepa.h"
#include "compute/compute.h"
#include "video/video.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t signal_came;

static void on_signal(int s) {
    if (signal_came) _exit(128 + s); /* a second one stops at once; what was written stays valid */
    signal_came = s;
}

int cli_stopped(void *unused) { return signal_came != 0; }

typedef struct command { const char *name; int (*run)(cli *, int, char **); const char *what; } command;
static const command commands[] = {
    {"train", cmd_train, "pretrain on video files: CONFIG.yaml → a folder of checkpoints"},
    {"embed", cmd_embed, "embeddings of videos, images, lists, folders → .h5, .npy, .safetensors"},
    {"merge", cmd_merge, "the outputs of a job's shards become one"},
    {"predict", cmd_predict, "what the predictor thinks is behind the mask, and how far off it is"},
    {"classify", cmd_classify, "what a released classifier sees in each video: classes with their probabilities"},
    {"probe", cmd_probe, "how much a linear classifier reads out of frozen features"},
    {"pca", cmd_pca, "a picture of what the features tell apart"},
    {"convert", cmd_convert, "a model in the files that others read: a Hugging Face folder, a .pt"},
    {"info", cmd_info, "what is in a model, a video, an HDF5 file"},
    {"frames", cmd_frames, "what the model would see, as PNGs or a tensor"},
    {"verify", cmd_verify, "every item of a list decoded once: what cannot be used, and why"},
    {"bench", cmd_bench, "how fast this machine encodes, predicts, trains and decodes, beside what its products reach"},
    {"synth", cmd_synth, "make a small data set: moving digits"},
};

static void help(FILE *f) {
    fprintf(f, "jepa %s: JEPA world models in C: pretrain on video, embed, look inside.\n\n"
               "  jepa synth moving-digits --out digits --clips 2000 --seed 1\n"
               "  jepa train configs/tiny.yaml --set data.datasets=[digits/clips.txt] --out run\n"
               "  jepa embed -m run/latest -o out.h5 digits/clips.txt\n"
               "  jepa info run/latest out.h5\n\nsubcommands (jepa COMMAND --help explains each):\n", jepa_version());
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].what);
    fprintf(f, "\nexit codes: 0 all done · 1 some inputs failed · 2 wrong use · 3 model or config unusable · 4 cannot read or write\n"
               "            5 does not fit in memory · 6 training stopped itself · 7 a device failed · 130, 143 interrupted\n");
}

void cli_progress_end(cli *c) {
    if (c->on_line) fputc('\n', stderr);
    c->on_line = 0;
}

void cli_progress(cli *c, const char *text) {
    if (c->quiet) return;
    if (c->tty) {
        fprintf(stderr, "\r%s\033[K", text);
        c->on_line = 1;
        fflush(stderr);
    } else if (clock_seconds() - c->last >= 10) {
        fprintf(stderr, "%s\n", text);
        c->last = clock_seconds();
    }
}

void cli_line(cli *c, const char *fmt, ...) {
    if (c->quiet) return;
    va_list ap;
    va_start(ap, fmt);
    if (c->on_line) fputs("\r\033[K", stderr), c->on_line = 0;
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void cli_warn(cli *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    cli_progress_end(c);
    fputs("jepa: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

int cli_exit(cli *c, int rc, const jepa_err *err) {
    if (rc >= 0) {
        cli_progress_end(c);
        if (fflush(stdout) || ferror(stdout)) {
            cli_warn(c, "standard output cannot be written: %s", strerror(errno));
            return 4;
        }
        return rc;
    }
    cli_warn(c, "%s", err && err->text[0] ? err->text : "failed");
    switch (rc) {
    case JEPA_E_UNSUPPORTED: return 3;
    case JEPA_E_INPUT: case JEPA_E_END: return 4;
    case JEPA_E_CANCELLED: return 128 + (signal_came ? signal_came : SIGINT);
    default: return rc >= JEPA_E_DEVICE && rc <= JEPA_E_USE ? -rc : 4;
    }
}

int cli_device(const cli *c, const char **name, jepa_err *err) {
    *name = c->device;
    if (!strcmp(c->device, "auto")) *name = "cpu";
    if (!strncmp(c->device, "cuda", 4)) return err_set(err, JEPA_E_MODEL, "--device %s: this build has no CUDA back end; use --device cpu", c->device);
    return 0;
}

int cli_precision(const cli *c, const char **name, jepa_err *err) {
    *name = c->precision ? c->precision : "f32";
    if (strcmp(*name, "f32") && strcmp(*name, "bf16")) return err_set(err, JEPA_E_USE, "--precision %s: f32 or bf16", *name);
    return 0;
}

static void versions(void) {
    dev *d = NULL;
    printf("jepa %s\n", jepa_version());
    if (dev_open(&d, "cpu", 0, NULL) == 0) printf("%s\n", dev_describe(d));
    dev_close(&d);
    printf("%s\n", video_libraries());
}

int main(int argc, char **argv) {
    cli c = {.device = "auto"};
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sa.sa_flags = SA_RESTART;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is an error like a full disk */
    c.tty = isatty(STDERR_FILENO);
    video_quiet();
    for (int i = 0, k = 0; i < argc && k < (int)sizeof c.line - 1; i++) k += snprintf(c.line + k, sizeof c.line - (size_t)k, "%s%s", i ? " " : "", argv[i]);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        help(argc < 2 ? stderr : stdout);
        return cli_exit(&c, argc < 2 ? 2 : 0, NULL);
    }
    if (!strcmp(argv[1], "--version")) {
        versions();
        return cli_exit(&c, 0, NULL);
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name)) {
            c.command = commands[i].name;
            return commands[i].run(&c, argc - 2, argv + 2);
        }
    cli_warn(&c, "%s: no such command; jepa --help lists them", argv[1]);
    return 2;
}
