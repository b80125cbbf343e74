# weft: build, test, demo, bench, format. `make help` lists the targets.
#
# Every configuration builds out of tree in build/CONFIG/. Sources are found by folder, so a new .c file, test
# (tests/**/test_*.c), fuzz harness (tests/fuzz/fuzz_*.c) or benchmark (bench/bench_*.c) needs no line here.
# The suffix of a file name selects the instructions it may use: *_avx2.c, *_avx512.c, *_avx512bf16.c, *_amx.c.

.DEFAULT_GOAL := all
CONFIG ?= release
OUT := build/$(CONFIG)
CC := gcc
PYTHON ?= python3

# All cores, unless -j says otherwise.
ifeq ($(MAKELEVEL)$(filter -j% --jobserver%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

# ---- dependencies ------------------------------------------------------------------------------------------
# Missing packages are installed before anything else is read: their flags are asked for below.
ifneq ($(filter-out clean help info deps,$(or $(MAKECMDGOALS),all)),)
ifeq ($(MAKELEVEL),0)
INSTALLED := $(shell { launch/deps check || launch/deps install; } >&2 && echo yes)
ifneq ($(INSTALLED),yes)
$(error packages are missing, see above)
endif
endif
endif
PACKAGES := ompi-c hdf5-openmpi yaml-0.1 libjpeg libpng libwebp libpcre2-8 libutf8proc jansson libxxhash
PACKAGE_CFLAGS := $(filter-out -DUTF8PROC_EXPORTS,$(shell pkg-config --cflags $(PACKAGES) 2>/dev/null))
PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -ldnnl

NVCC := $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
ifeq ($(CUDA),0)
NVCC :=
endif

# ---- flags -------------------------------------------------------------------------------------------------
# No -ffast-math: isnan would become constant 0. What is relaxed here keeps NaN and infinity intact.
OPT_release := -O3 -g -fno-math-errno -fno-trapping-math
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
ifeq ($(CONFIG),fuzz)
CC := clang
endif
# ccache, where it is installed, makes a second checkout cheap to build.
CCACHE := $(shell command -v ccache 2>/dev/null)
export CCACHE_NOHASHDIR := 1
WARN := -Wall -Wextra -Wpedantic -Werror
CFLAGS := -std=c17 -D_GNU_SOURCE -I. $(OPT_$(CONFIG)) $(WARN) -fopenmp -pthread $(PACKAGE_CFLAGS) -MMD -MP
LDLIBS := $(PACKAGE_LIBS) -lm -pthread
LDFLAGS := -fopenmp $(filter -fsanitize%,$(OPT_$(CONFIG)))

MACHINE := $(shell uname -m)
ISA_avx2 := -mavx2 -mfma -mf16c
ISA_avx512 := $(ISA_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
ISA_avx512bf16 := $(ISA_avx512) -mavx512bf16
ISA_amx := $(ISA_avx512bf16) -mamx-tile -mamx-bf16
isa_flags = $(if $(filter x86_64,$(MACHINE)),$(ISA_$(lastword $(subst _, ,$(basename $(notdir $1))))))

# ---- sources -----------------------------------------------------------------------------------------------
FOLDERS := runtime model data objectives launch
# launch/bundle compiles its own two.
SOURCES := $(filter-out launch/bundle_%,$(sort $(shell find $(FOLDERS) -name '*.c' 2>/dev/null)))
ifeq ($(CONFIG),fuzz)
# Fuzzers feed the parsers of foreign bytes; the kernels need not be built for them.
SOURCES := $(filter runtime/base/% runtime/backend/cpu/isa.c runtime/graph/tensor.c \
  runtime/checkpoint/safetensors.c data/%,$(SOURCES))
endif
CU_SOURCES := $(if $(NVCC),$(sort $(shell find $(FOLDERS) -name '*.cu' 2>/dev/null)))
OBJECTS := $(SOURCES:%.c=$(OUT)/%.o) $(CU_SOURCES:%.cu=$(OUT)/%.cu.o)
LIBRARY := $(OUT)/libweft.a
# Tests of the CUDA backend run on the CPU, see "the CUDA kernels on the CPU".
CUDA_TEST_SOURCES := $(sort $(shell find tests/cuda -name 'test_*.c' -o -name 'test_*.cu' 2>/dev/null))
CUDA_TESTS := $(addprefix $(OUT)/,$(basename $(CUDA_TEST_SOURCES)))
TEST_SOURCES := $(filter-out tests/cuda/%,$(sort $(shell find tests -name 'test_*.c' 2>/dev/null)))
TESTS := $(TEST_SOURCES:%.c=$(OUT)/%)
FUZZ_SOURCES := $(sort $(wildcard tests/fuzz/fuzz_*.c))
BENCH_SOURCES := $(sort $(wildcard bench/bench_*.c))
BENCHES := $(BENCH_SOURCES:%.c=$(OUT)/%)
C_FILES = $(shell git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')

ifneq ($(NVCC),)
CUDA_HOME := $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
CFLAGS += -DWEFT_CUDA=1
CUDA_ARCHS ?= 80 90a 100
ifeq ($(FAST),1)
CUDA_ARCHS := 90a
endif
GENCODE := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a)
# Newer GPUs than the newest here run what their driver makes of its PTX. That of 90a and the like is for one GPU only.
NEWEST_ARCH := $(filter-out %a %f,$(lastword $(CUDA_ARCHS)))
GENCODE += $(foreach a,$(NEWEST_ARCH),-gencode arch=compute_$a,code=compute_$a)
NVCCFLAGS := -std=c++17 -O3 -lineinfo -I. $(GENCODE) -DWEFT_CUDA=1 -Werror all-warnings \
  -Xcompiler -Wall,-Wextra,-Werror -MMD -MP
CUDA_LIBS := -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -Wl,-rpath,$(CUDA_HOME)/lib64:$(CUDA_HOME)/lib -lcublasLt \
  -lcudart_static -ldl -lrt -lstdc++
# NCCL, for several GPUs: in CUDA's folder, the system's, or NCCL_HOME. It is opened when it is needed, not linked.
NCCL_HEADER := $(firstword $(wildcard $(addsuffix /include/nccl.h,$(NCCL_HOME) $(CUDA_HOME) /usr /usr/local)))
ifneq ($(NCCL_HEADER),)
NCCL_ROOT := $(NCCL_HEADER:/include/nccl.h=)
NVCCFLAGS += -DWEFT_NCCL=1 $(if $(filter /usr $(CUDA_HOME),$(NCCL_ROOT)),,-I$(NCCL_ROOT)/include)
CUDA_LIBS += $(foreach d,$(wildcard $(NCCL_ROOT)/lib $(NCCL_ROOT)/lib64),-Wl,-rpath,$d)
endif
LDLIBS += $(CUDA_LIBS)
endif

# ---- building ----------------------------------------------------------------------------------------------
.PHONY: all
all: build/weft compile_commands.json ## build build/weft and everything it needs

build/weft: $(OUT)/weft
	@mkdir -p build && ln -sfn $(CONFIG)/weft build/weft

$(OUT)/weft: $(OUT)/launch/main.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIBRARY): $(filter-out $(OUT)/launch/main.o,$(OBJECTS))
	@rm -f $@ && ar rcs $@ $^

# Other flags than last time rebuild everything.
FLAGS_NOW := $(CC) $(CFLAGS) $(NVCCFLAGS)
FLAGS_FILE := $(OUT)/flags
ifneq ($(FLAGS_NOW),$(shell cat $(FLAGS_FILE) 2>/dev/null))
$(shell mkdir -p $(OUT))
$(file >$(FLAGS_FILE),$(FLAGS_NOW))
endif

# What is being built, for logs; one file knows, so that a commit rebuilds no other.
DESCRIBE_NOW := $(if $(wildcard .git),$(shell git describe --always --tags --dirty 2>/dev/null))
DESCRIBE_FILE := $(OUT)/describe
ifneq ($(DESCRIBE_NOW),$(shell cat $(DESCRIBE_FILE) 2>/dev/null || echo none))
$(shell mkdir -p $(OUT))
$(file >$(DESCRIBE_FILE),$(DESCRIBE_NOW))
endif
$(OUT)/launch/build.o: $(DESCRIBE_FILE)
$(OUT)/launch/build.o: CFLAGS += $(if $(DESCRIBE_NOW),-DWEFT_GIT='"$(DESCRIBE_NOW)"')

$(OUT)/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(CCACHE) $(CC) $(CFLAGS) $(call isa_flags,$<) -c -o $@ $<

$(OUT)/%.cu.o: %.cu $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -Xptxas -v -c -o $@ $< 2>$@.log || { cat $@.log >&2; exit 1; }

$(OUT)/tests/%: $(OUT)/tests/%.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(OUT)/tests/fuzz/%: $(OUT)/tests/fuzz/%.o $(LIBRARY)
	$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

$(OUT)/bench/%: $(OUT)/bench/%.o $(OUT)/bench/step.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# ---- the CUDA kernels on the CPU ---------------------------------------------------------------------------
# tests/cuda/emulator stands in for CUDA's headers and libraries, so that the .cu files compile here too and the
# tests in tests/cuda run without a GPU, and without nvcc. C files that ask for WEFT_CUDA are built once more.
EMULATED := $(OUT)/emulated
EMULATED_DEFINES := -DWEFT_CUDA=1 -DWEFT_CUDA_EMULATED=1 -DWEFT_NCCL=1
EMULATED_CXXFLAGS := -std=c++17 -D_GNU_SOURCE -Itests/cuda/emulator -I. $(OPT_$(CONFIG):-O3=-O2) $(WARN) -Wno-unknown-pragmas \
  $(EMULATED_DEFINES) -pthread $(PACKAGE_CFLAGS) -MMD -MP
EMULATED_C := $(filter $(SOURCES),$(shell grep -lsE 'WEFT_CUDA' $(SOURCES)))
EMULATED_CU := $(sort $(shell find $(FOLDERS) -name '*.cu' 2>/dev/null))
EMULATED_CPP := $(sort $(wildcard tests/cuda/emulator/*.cpp))
EMULATED_OBJECTS := $(EMULATED_C:%=$(EMULATED)/%.o) $(EMULATED_CU:%=$(EMULATED)/%.o) $(EMULATED_CPP:%=$(EMULATED)/%.o)
EMULATED_LIBRARY := $(EMULATED)/libweft.a
EMULATED_LDLIBS := $(filter-out $(CUDA_LIBS),$(LDLIBS))

$(EMULATED)/%.c.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(CCACHE) $(CC) $(CFLAGS) $(EMULATED_DEFINES) -c -o $@ $<

$(EMULATED)/%.cu.o: %.cu $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(CCACHE) $(CXX) $(EMULATED_CXXFLAGS) -x c++ -c -o $@ $<

$(EMULATED)/%.cpp.o: %.cpp $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(CCACHE) $(CXX) $(EMULATED_CXXFLAGS) -c -o $@ $<

$(EMULATED_LIBRARY): $(EMULATED_OBJECTS) $(filter-out $(EMULATED_C:%.c=$(OUT)/%.o) %.cu.o $(OUT)/launch/main.o,$(OBJECTS))
	@rm -f $@ && ar rcs $@ $^

$(EMULATED)/weft: $(OUT)/launch/main.o $(EMULATED_LIBRARY)
	$(CXX) $(LDFLAGS) -o $@ $^ $(EMULATED_LDLIBS)

$(OUT)/tests/cuda/%: $(EMULATED)/tests/cuda/%.c.o $(EMULATED_LIBRARY)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) -o $@ $^ $(EMULATED_LDLIBS) -lcmocka

$(OUT)/tests/cuda/%: $(EMULATED)/tests/cuda/%.cu.o $(EMULATED_LIBRARY)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) -o $@ $^ $(EMULATED_LDLIBS) -lcmocka

# ---- on a GPU ----------------------------------------------------------------------------------------------
# The same tests with the real libraries, and bench/gpu. They build where nvcc is; they run where a GPU is, by
# tests/run --gpu (make gpu-test) and bench/gpu, here or from a bundle (make gpu-bundle).
GPU := $(OUT)/gpu
GPU_TESTS := $(addprefix $(GPU)/,$(basename $(CUDA_TEST_SOURCES)))
GPU_BENCH_SOURCES := $(sort $(wildcard bench/gpu_*.c bench/gpu_*.cu)) bench/step.c

$(GPU)/%.c.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(CCACHE) $(CC) $(CFLAGS) -c -o $@ $<

$(GPU)/%.cu.o: %.cu $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -c -o $@ $<

$(GPU)/tests/cuda/%: $(GPU)/tests/cuda/%.c.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(GPU)/tests/cuda/%: $(GPU)/tests/cuda/%.cu.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(GPU)/bench/gpu_bench: $(GPU_BENCH_SOURCES:%=$(GPU)/%.o) $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(EMULATED)/bench/gpu_bench: $(GPU_BENCH_SOURCES:%=$(EMULATED)/%.o) $(EMULATED_LIBRARY)
	$(CXX) $(LDFLAGS) -o $@ $^ $(EMULATED_LDLIBS)

.PHONY: gpu-programs gpu-test-programs gpu-test bench-gpu bundle gpu-bundle
gpu-programs: gpu-test-programs $(if $(NVCC),$(GPU)/bench/gpu_bench) ## build the GPU's tests and benchmark; needs nvcc
gpu-test-programs: $(if $(NVCC),$(GPU_TESTS) $(OUT)/weft,gpu-needs-nvcc)

.PHONY: gpu-needs-nvcc
gpu-needs-nvcc:
	@echo "there is no nvcc here (or CUDA=0): programs for GPUs cannot be built" >&2; exit 1

gpu-test: build/weft gpu-test-programs ## run the GPU's tests; says that it skips them where there is no GPU
	@tests/run --gpu --build $(OUT) $(if $(T),--only '$(T)')

bench-gpu: build/weft gpu-programs ## measure a GPU against its ceilings and PyTorch; SECTIONS="copy layers" selects
	@bench/gpu --build $(OUT) $(SECTIONS)

bundle: all ## a tarball for machines that have nothing of what weft needs, in build/bundle
	@launch/bundle --build $(OUT) --output build/bundle

gpu-bundle: all gpu-programs ## the same with the GPU's tests and benchmark, without cuBLASLt and NCCL
	@launch/bundle --build $(OUT) --output build/bundle --tests --without-cuda-libraries --xz

.PRECIOUS: $(OUT)/%.o $(EMULATED)/%.c.o $(EMULATED)/%.cu.o $(EMULATED)/%.cpp.o $(GPU)/%.c.o $(GPU)/%.cu.o
-include $(shell find $(OUT) -name '*.d' 2>/dev/null)

.PHONY: compile_commands.json
compile_commands.json: ## the compiler's flags per file, for editors and clang-tidy
	@printf '[' > $@.tmp; sep=''; for f in $(SOURCES) $(TEST_SOURCES) $(BENCH_SOURCES); do \
	  printf '%s\n{"directory":"%s","file":"%s","command":"$(CC) $(CFLAGS) -c %s"}' "$$sep" "$(CURDIR)" $$f $$f; \
	  sep=','; done >> $@.tmp; printf ']\n' >> $@.tmp; mv $@.tmp $@

# ---- tests -------------------------------------------------------------------------------------------------
.PHONY: check test test-programs asan asan-programs fuzz fuzz-programs
check: ## build and run everything: tests, sanitizer tests, fuzzers (30 s each), format, includes
	@tests/check

test: build/weft test-programs ## build and run the tests; T=pattern selects, e.g. make test T=runtime/base
	@tests/run --build $(OUT) $(if $(T),--only '$(T)')

test-programs: $(TESTS) $(CUDA_TESTS) $(OUT)/weft $(EMULATED)/weft $(EMULATED)/bench/gpu_bench

asan: ## build with ASan and UBSan and run the tests that allow it; T=pattern selects
	@$(MAKE) --no-print-directory CONFIG=asan CUDA=0 test-programs
	@tests/run --build build/asan --sanitizer $(if $(T),--only '$(T)')

fuzz: ## run every fuzz harness for FUZZ_SECONDS (30) seconds; T=pattern selects
	@$(MAKE) --no-print-directory CONFIG=fuzz CUDA=0 fuzz-programs
	@tests/fuzz/run --build build/fuzz --seconds $(or $(FUZZ_SECONDS),30) $(if $(T),--only '$(T)')

fuzz-programs: $(FUZZ_SOURCES:%.c=$(OUT)/%)

.PHONY: bench bench-programs demo
bench: build/weft bench-programs ## measure against the ceilings of this machine, in one run
	@bench/run --build $(OUT) $(if $(T),--only '$(T)')

bench-programs: $(BENCHES)

.PHONY: cuda-report
cuda-report: $(CU_SOURCES:%.cu=$(OUT)/%.cu.o) ## registers, spills, tensor-core and memory instructions of every CUDA kernel
	@bench/cuda-report --build $(OUT) $(if $(T),--only '$(T)')

demo: all ## train a small model on 2 ranks and look at it
	@launch/demo

# ---- habits ------------------------------------------------------------------------------------------------
.PHONY: format format-check tidy deps deps-check info clean help
format: ## format every C and CUDA file
	@clang-format -i $(C_FILES)

format-check: ## fail when a file is not formatted
	@clang-format --dry-run -Werror $(C_FILES)

tidy: compile_commands.json ## run clang-tidy
	@clang-tidy --quiet -p . $(filter-out %_avx2.c %_avx512.c %_avx512bf16.c %_amx.c,$(SOURCES)) 2>&1 | \
	  tee $(OUT)/tidy.log | grep -E 'warning:|error:' ; ! grep -qE 'warning:|error:' $(OUT)/tidy.log

deps: ## install the Debian packages that the build needs; every target that builds does it
	@launch/deps install

info: ## what was found on this machine
	@echo "compiler  $$($(CC) --version | head -1)"
	@echo "nvcc      $(or $(NVCC),not found: CPU only)"
	@echo "nccl      $(or $(NCCL_HEADER),not found: one GPU)"
	@launch/deps info

clean: ## remove build/
	rm -rf build compile_commands.json

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	  awk -F '\t' '{printf "  make %-14s %s\n", $$1, $$2}'
