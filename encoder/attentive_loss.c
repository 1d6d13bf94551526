/* attentive_loss.c: class scores to probabilities, and their cross entropy with its gradient. */
#include "encoder/attentive.h"

#include <math.h>

static double top_of(const float *x, int64_t n) {
    double top = x[0];
    for (int64_t i = 1; i < n; i++)
        if (x[i] > top) top = x[i];
    return top;
}

void softmax_rows(const float *logits, int64_t rows, int64_t classes, double *probabilities) {
    for (int64_t r = 0; r < rows; r++, logits += classes, probabilities += classes) {
        const double top = top_of(logits, classes);
        double sum = 0;
        for (int64_t i = 0; i < classes; i++) sum += probabilities[i] = exp(logits[i] - top);
        for (int64_t i = 0; i < classes; i++) probabilities[i] /= sum;
    }
}

int cross_entropy(const float *logits, const int64_t *labels, int64_t rows, int64_t classes, double *loss, double *probabilities,
                  float *dlogits, jepa_err *err) {
    if (rows < 1 || classes < 1)
        return err_set(err, JEPA_E_USE, "cross entropy of %lld rows, %lld classes", (long long)rows, (long long)classes);
    for (int64_t r = 0; r < rows; r++)
        if (labels[r] < 0 || labels[r] >= classes)
            return err_set(err, JEPA_E_USE, "row %lld has label %lld; there are %lld classes (0 to %lld)", (long long)r,
                           (long long)labels[r], (long long)classes, (long long)classes - 1);
    double total = 0;
    for (int64_t r = 0; r < rows; r++) {
        const float *x = logits + r * classes;
        const double top = top_of(x, classes);
        double sum = 0;
        for (int64_t i = 0; i < classes; i++) sum += exp(x[i] - top);
        total += log(sum) - (x[labels[r]] - top);
        for (int64_t i = 0; i < classes; i++) {
            const double p = exp(x[i] - top) / sum;
            if (probabilities) probabilities[r * classes + i] = p;
            if (dlogits) dlogits[r * classes + i] = (float)((p - (i == labels[r])) / (double)rows);
        }
    }
    *loss = total / (double)rows;
    return 0;
}
