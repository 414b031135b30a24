# Leaves out of llama.cpp what only its command line tools need (chat parsers, HTTP, downloads): half of the build.
# llama-cpp-python forces LLAMA_BUILD_COMMON on in CMake's cache; a normal variable of that name wins over the cache.
# tools/setup.sh has it included right after project(llama_cpp). Were it ever ignored, the build would only take longer.
set(LLAMA_BUILD_COMMON OFF)
