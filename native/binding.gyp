{
  "targets": [
    {
      "target_name": "spapr_htab",
      "sources": [
        "src/addon.cc",
        "src/adopt.cc",
        "src/arguments.cc",
        "src/behind-writer.cc",
        "src/block-passer.cc",
        "src/bus-guard.cc",
        "src/child.cc",
        "src/copy-range.cc",
        "src/descriptor.cc",
        "src/file-io.cc",
        "src/htab-io.cc",
        "src/htab.cc",
        "src/native-file.cc",
        "src/operation.cc",
        "src/page-walker.cc",
        "src/pass-blocks.cc",
        "src/probe.cc",
        "src/range-copier.cc",
        "src/transfer.cc",
        "src/walk-pages.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=9",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-fexceptions", "-fvisibility=hidden"],
      "conditions": [
        # A handler of a signal stays when the worker that loaded the addon ends.
        ["OS=='linux'", { "ldflags": ["-Wl,-z,nodelete"] }]
      ],
      "xcode_settings": { "GCC_ENABLE_CPP_EXCEPTIONS": "YES", "CLANG_CXX_LANGUAGE_STANDARD": "c++17" },
      "msvs_settings": { "VCCLCompilerTool": { "ExceptionHandling": 1 } }
    }
  ]
}
