/* pt_class.c: the class names that a checkpoint may hold, and what each means here. A name outside this list ends the reading; a name in it
 * is never looked up, only told apart. Values of C_PASS classes (random states, configurations, paths) are parsed past. */
#include "checkpoint/pt.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *module, *name; /* name "*": any */
    pt_role role;
    dtype type;
} CLASSES[] = {
    {"", "", C_PASS, T_NONE}, /* number 0: no class */
    {"collections", "OrderedDict", C_DICT, T_NONE},
    {"torch._utils", "_rebuild_tensor_v2", C_TENSOR2, T_NONE},
    {"torch._utils", "_rebuild_tensor", C_TENSOR1, T_NONE},
    {"torch._utils", "_rebuild_tensor_v3", C_TENSOR3, T_NONE},
    {"torch._utils", "_rebuild_parameter", C_PARAMETER, T_NONE},
    {"torch._utils", "_rebuild_parameter_with_state", C_PARAMETER, T_NONE},
    {"torch._tensor", "_rebuild_from_type_v2", C_FROM_TYPE, T_NONE},
    {"torch", "FloatStorage", C_STORAGE, T_F32},
    {"torch", "DoubleStorage", C_STORAGE, T_F64},
    {"torch", "HalfStorage", C_STORAGE, T_F16},
    {"torch", "BFloat16Storage", C_STORAGE, T_BF16},
    {"torch", "LongStorage", C_STORAGE, T_I64},
    {"torch", "IntStorage", C_STORAGE, T_I32},
    {"torch", "ShortStorage", C_STORAGE, T_I16},
    {"torch", "CharStorage", C_STORAGE, T_I8},
    {"torch", "ByteStorage", C_STORAGE, T_U8},
    {"torch", "BoolStorage", C_STORAGE, T_BOOL},
    {"torch.cuda", "FloatStorage", C_STORAGE, T_F32},
    {"torch.cuda", "DoubleStorage", C_STORAGE, T_F64},
    {"torch.cuda", "HalfStorage", C_STORAGE, T_F16},
    {"torch.cuda", "BFloat16Storage", C_STORAGE, T_BF16},
    {"torch.cuda", "LongStorage", C_STORAGE, T_I64},
    {"torch.cuda", "IntStorage", C_STORAGE, T_I32},
    {"torch.cuda", "ShortStorage", C_STORAGE, T_I16},
    {"torch.cuda", "CharStorage", C_STORAGE, T_I8},
    {"torch.cuda", "ByteStorage", C_STORAGE, T_U8},
    {"torch.cuda", "BoolStorage", C_STORAGE, T_BOOL},
    {"torch.storage", "UntypedStorage", C_STORAGE, T_U8},
    {"torch", "ComplexFloatStorage", C_STORAGE, T_NONE}, /* known, and refused where a parameter is made of it */
    {"torch", "ComplexDoubleStorage", C_STORAGE, T_NONE},
    {"torch", "QInt8Storage", C_STORAGE, T_NONE},
    {"torch", "QUInt8Storage", C_STORAGE, T_NONE},
    {"torch", "QInt32Storage", C_STORAGE, T_NONE},
    {"torch", "float32", C_DTYPE, T_F32},
    {"torch", "float64", C_DTYPE, T_F64},
    {"torch", "float16", C_DTYPE, T_F16},
    {"torch", "bfloat16", C_DTYPE, T_BF16},
    {"torch", "int64", C_DTYPE, T_I64},
    {"torch", "int32", C_DTYPE, T_I32},
    {"torch", "int16", C_DTYPE, T_I16},
    {"torch", "int8", C_DTYPE, T_I8},
    {"torch", "uint8", C_DTYPE, T_U8},
    {"torch", "bool", C_DTYPE, T_BOOL},
    {"torch", "uint16", C_DTYPE, T_NONE},
    {"torch", "uint32", C_DTYPE, T_NONE},
    {"torch", "uint64", C_DTYPE, T_NONE},
    {"torch", "complex64", C_DTYPE, T_NONE},
    {"torch", "complex128", C_DTYPE, T_NONE},
    {"torch", "float8_e4m3fn", C_DTYPE, T_NONE},
    {"torch", "float8_e5m2", C_DTYPE, T_NONE},
    {"torch", "Size", C_SAME, T_NONE},
    {"torch", "device", C_PASS, T_NONE},
    {"torch", "Tensor", C_PASS, T_NONE},
    {"torch.nn.parameter", "Parameter", C_PASS, T_NONE},
    {"torch.nn.parameter", "Buffer", C_PASS, T_NONE},
    {"torch", "Generator", C_PASS, T_NONE},
    {"torch", "contiguous_format", C_PASS, T_NONE},
    {"torch.serialization", "_get_layout", C_PASS, T_NONE},
    {"torch._utils", "_rebuild_sparse_tensor", C_PASS, T_NONE},
    {"torch._utils", "_rebuild_qtensor", C_PASS, T_NONE},
    {"torch._utils", "_rebuild_device_tensor_from_numpy", C_PASS, T_NONE},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", C_PASS, T_NONE},
    {"torch._utils", "_rebuild_wrapper_subclass", C_PASS, T_NONE},
    {"numpy.core.multiarray", "scalar", C_NUMBER, T_NONE},
    {"numpy._core.multiarray", "scalar", C_NUMBER, T_NONE},
    {"numpy.core.multiarray", "_reconstruct", C_PASS, T_NONE},
    {"numpy._core.multiarray", "_reconstruct", C_PASS, T_NONE},
    {"numpy.core.numeric", "_frombuffer", C_PASS, T_NONE},
    {"numpy._core.numeric", "_frombuffer", C_PASS, T_NONE},
    {"numpy", "dtype", C_PASS, T_NONE},
    {"numpy", "ndarray", C_PASS, T_NONE},
    {"numpy.dtypes", "*", C_PASS, T_NONE},
    {"_codecs", "encode", C_PASS, T_NONE}, /* bytes, as protocol 2 writes them */
    {"builtins", "bytearray", C_PASS, T_NONE},
    {"builtins", "set", C_PASS, T_NONE},
    {"builtins", "frozenset", C_PASS, T_NONE},
    {"builtins", "complex", C_PASS, T_NONE},
    {"builtins", "slice", C_PASS, T_NONE},
    {"builtins", "range", C_PASS, T_NONE},
    {"builtins", "object", C_PASS, T_NONE},
    {"builtins", "list", C_PASS, T_NONE},
    {"builtins", "dict", C_PASS, T_NONE},
    {"builtins", "tuple", C_PASS, T_NONE},
    {"builtins", "int", C_PASS, T_NONE},
    {"builtins", "float", C_PASS, T_NONE},
    {"builtins", "str", C_PASS, T_NONE},
    {"__builtin__", "bytearray", C_PASS, T_NONE},
    {"__builtin__", "set", C_PASS, T_NONE},
    {"__builtin__", "frozenset", C_PASS, T_NONE},
    {"__builtin__", "complex", C_PASS, T_NONE},
    {"__builtin__", "slice", C_PASS, T_NONE},
    {"__builtin__", "xrange", C_PASS, T_NONE},
    {"__builtin__", "object", C_PASS, T_NONE},
    {"__builtin__", "list", C_PASS, T_NONE},
    {"__builtin__", "dict", C_PASS, T_NONE},
    {"__builtin__", "tuple", C_PASS, T_NONE},
    {"__builtin__", "int", C_PASS, T_NONE},
    {"__builtin__", "float", C_PASS, T_NONE},
    {"copyreg", "_reconstructor", C_PASS, T_NONE},
    {"copy_reg", "_reconstructor", C_PASS, T_NONE},
    {"collections", "defaultdict", C_PASS, T_NONE},
    {"collections", "Counter", C_PASS, T_NONE},
    {"argparse", "Namespace", C_PASS, T_NONE},
    {"types", "SimpleNamespace", C_PASS, T_NONE},
    {"pathlib", "*", C_PASS, T_NONE},
    {"pathlib._local", "*", C_PASS, T_NONE},
    {"datetime", "*", C_PASS, T_NONE},
    {"decimal", "Decimal", C_PASS, T_NONE},
    {"typing", "Any", C_PASS, T_NONE},
    {"omegaconf.base", "*", C_PASS, T_NONE},
    {"omegaconf.nodes", "*", C_PASS, T_NONE},
    {"omegaconf.dictconfig", "*", C_PASS, T_NONE},
    {"omegaconf.listconfig", "*", C_PASS, T_NONE},
};
_Static_assert(sizeof CLASSES / sizeof *CLASSES < 256, "a class number is kept in a byte");

static int same(const char *s, const unsigned char *text, size_t size) {
    return size && (unsigned char)*s == *text && strlen(s) == size && !memcmp(s, text, size);
}

int pt_class(const unsigned char *module, size_t module_size, const unsigned char *name, size_t name_size, value *out) {
    for (size_t i = 1; i < sizeof CLASSES / sizeof *CLASSES; i++)
        if ((*CLASSES[i].name == '*' || same(CLASSES[i].name, name, name_size)) && same(CLASSES[i].module, module, module_size)) {
            out->role = (uint8_t)CLASSES[i].role;
            out->type = (uint8_t)CLASSES[i].type;
            out->class = (uint8_t)i;
            return 0;
        }
    return JEPA_E_MODEL;
}

const char *pt_class_name(int class, char *out, size_t size) {
    int known = class > 0 && class < (int)(sizeof CLASSES / sizeof *CLASSES);
    snprintf(out, size, "%s%s%s", known ? CLASSES[class].module : "a set or the like", known ? "." : "", known ? CLASSES[class].name : "");
    return out;
}
