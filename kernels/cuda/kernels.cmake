# The files that hold kernels. They are compiled by nvcc here, and as C++ for the emulator's tests.
set(XCOMPOSER_CUDA_KERNELS attention_decode.cu attention_prefill.cu decode_linear.cu elementwise.cu linear_few_rows.cu low_rank.cu norm.cu place_weights.cu rope_kv.cu sampling.cu vision.cu)
