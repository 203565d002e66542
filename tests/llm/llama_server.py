"""The server of llama-cpp-python, which crashes on processors with AMX unless its kernels are left out."""

import runpy

from dillema.llm.llama_cpp import _without_amx

if __name__ == "__main__":
    with _without_amx():
        runpy.run_module("llama_cpp.server", run_name="__main__")
