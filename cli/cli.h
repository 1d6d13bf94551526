/* cli.h: what the subcommands of `jepa` share: options, messages, signals, exit codes. The only folder that prints and exits. */
#ifndef JEPA_CLI_H
#define JEPA_CLI_H
#include "base/base.h"

#include <signal.h>

typedef enum { O_FLAG, O_INT, O_LONG, O_DOUBLE, O_TEXT, O_LIST } opt_kind;
typedef struct opt {
    const char *name, *arg, *help;  /* "--frames", "N", one line of help; arg NULL: a flag */
    opt_kind kind;
    void *to;                       /* int, int, int64_t, double, const char *, text_list */
    double low, high;               /* range of numbers */
    const char *letter;             /* "-o" or NULL */
} opt;
typedef struct text_list { const char **at; int n; } text_list; /* given several times */

typedef struct cli {
    const char *command, *device, *precision;
    int threads, quiet, json;
    int tty;                        /* stderr is a terminal */
    int on_line;                    /* a progress line stands unfinished on it */
    double last;                    /* when the last plain progress line was printed */
    char line[4096];                /* the whole command, stored in outputs */
} cli;

/* Options of the table and the common ones are taken out of argv; what is left (the inputs) goes into rest. 0, 1: --help was printed, or JEPA_E_USE.
 * usage: the help text's first part: an example first. */
int options_read(cli *c, const opt *table, int n, int argc, char **argv, const char *usage, text_list *rest, jepa_err *err);
int text_list_add(text_list *l, const char *s); /* keeps the pointer */
void text_list_free(text_list *l);

void cli_line(cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));      /* a message on stderr (not with --quiet) */
void cli_warn(cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));      /* "jepa: …" on stderr, always */
void cli_progress(cli *c, const char *text);                                            /* one line that is overwritten; every 10 s where there is no terminal */
void cli_progress_end(cli *c);
int cli_stopped(void *unused);                                                          /* a signal came */
int cli_exit(cli *c, int rc, const jepa_err *err);                                      /* prints err, gives the exit code */
int cli_precision(const cli *c, const char **name, jepa_err *err);                      /* "f32" where none was asked for (c->precision NULL) */
int cli_device(const cli *c, const char **name, jepa_err *err);                         /* "auto" resolved */

int cmd_train(cli *c, int argc, char **argv);
int cmd_embed(cli *c, int argc, char **argv);
int cmd_merge(cli *c, int argc, char **argv);
int cmd_frames(cli *c, int argc, char **argv);
int cmd_info(cli *c, int argc, char **argv);
int cmd_pca(cli *c, int argc, char **argv);
int cmd_synth(cli *c, int argc, char **argv);
int cmd_probe(cli *c, int argc, char **argv);
int cmd_predict(cli *c, int argc, char **argv);
int cmd_convert(cli *c, int argc, char **argv);
int cmd_classify(cli *c, int argc, char **argv);
int cmd_bench(cli *c, int argc, char **argv);
int cmd_verify(cli *c, int argc, char **argv);
#endif
