"""The few declarations that the C files need, for machines whose C library is not here: file name -> text."""

HEADERS = {
    "string.h": "#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\n",
    "math.h": "".join(
        f"{real} {name}{suffix}({real});\n"
        for real, suffix in (("double", ""), ("float", "f"))
        for name in ("fabs", "sqrt", "log1p", "expm1")
    )
    + "double log(double), erfc(double), copysign(double, double);\n",
}
