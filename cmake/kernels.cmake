# What compute/cpu is compiled with, for the whole tree and for tests/cross, which builds the kernels and checkop alone.
# Sets the warnings and the flags of kernels_ISA.c.
get_filename_component(kernels_root ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)

# format-truncation: texts are cut on purpose; maybe-uninitialized: false alarms at -O3, gcc does not know that an error code is negative
add_compile_options(-Wall -Wextra -Wshadow -Wno-unused-parameter $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation> $<$<C_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> -ffp-contract=off -fno-strict-aliasing)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  file(GLOB avx2 CONFIGURE_DEPENDS ${kernels_root}/compute/cpu/*_avx2.c)
  file(GLOB avx512 CONFIGURE_DEPENDS ${kernels_root}/compute/cpu/*_avx512.c)
  set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-ffp-contract=fast")
  file(GLOB avx512_bf16 CONFIGURE_DEPENDS ${kernels_root}/compute/cpu/*_avx512_bf16.c)
  set_source_files_properties(${avx512_bf16} PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mfma;-ffp-contract=fast")
  set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-ffp-contract=fast")
endif()
