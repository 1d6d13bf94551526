# What compute/cpu is compiled with, for the whole tree and for tests/cross, which builds the kernels and checkop alone.
# Sets: target dnnl (empty without oneDNN), JEPA_PRODUCTS (words), the flags of kernels_ISA.c, product*.c that are not to be compiled.
get_filename_component(kernels_root ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
set(JEPA_ONEDNN AUTO CACHE STRING "oneDNN for products of packed weights (AVX-512): ON, OFF (our own kernels for all), AUTO (ON where it is there)")
set_property(CACHE JEPA_ONEDNN PROPERTY STRINGS AUTO ON OFF)

# format-truncation: texts are cut on purpose; maybe-uninitialized: false alarms at -O3, gcc does not know that an error code is negative
add_compile_options(-Wall -Wextra -Wshadow -Wno-unused-parameter $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation> $<$<C_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> -ffp-contract=off -fno-strict-aliasing)

add_library(dnnl INTERFACE)
set(JEPA_PRODUCTS "our own (no oneDNN)")
set(unused_products EXCLUDE)
if(NOT JEPA_ONEDNN STREQUAL "OFF")
  find_path(DNNL_INCLUDE oneapi/dnnl/dnnl.h)
  find_library(DNNL_LIBRARY dnnl)
  if(DNNL_INCLUDE AND DNNL_LIBRARY)
    target_include_directories(dnnl SYSTEM INTERFACE ${DNNL_INCLUDE})
    target_link_libraries(dnnl INTERFACE ${DNNL_LIBRARY})
    target_compile_definitions(dnnl INTERFACE JEPA_ONEDNN=1)
    set(JEPA_PRODUCTS "oneDNN ${DNNL_LIBRARY}")
    set(unused_products INCLUDE)
  elseif(JEPA_ONEDNN STREQUAL "ON")
    message(FATAL_ERROR "oneDNN not found; on Debian: apt-get install libdnnl-dev")
  else()
    message(WARNING "oneDNN not found: packed weights (AVX-512) go without it; on Debian: apt-get install libdnnl-dev")
  endif()
endif()
# product*.c: oneDNN's packed weights, or none (product_none.c); the other kind is not compiled
file(GLOB products CONFIGURE_DEPENDS ${kernels_root}/compute/cpu/product*.c)
list(FILTER products ${unused_products} REGEX "_none[.]c$")
set_source_files_properties(${products} PROPERTIES HEADER_FILE_ONLY ON)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  file(GLOB avx2 CONFIGURE_DEPENDS ${kernels_root}/compute/cpu/*_avx2.c)
  file(GLOB avx512 CONFIGURE_DEPENDS ${kernels_root}/compute/cpu/*_avx512.c)
  set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-ffp-contract=fast")
  set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-ffp-contract=fast")
endif()
