from benchmarks.hot_paths import main

main()
