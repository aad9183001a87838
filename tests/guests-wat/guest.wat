;; A job type in a few lines: every export does the least it may, in the canonical ABI of waymark:task.
;; Tests replace what stands between `;;@part` and `;;@end`, and NAME with the job type and LENGTH with its length.
(module
  (import "waymark:task/job@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
  (import "waymark:task/job@0.1.0" "emit" (func $emit (param i32 i32)))
  (import "waymark:task/job@0.1.0" "should-yield" (func $should_yield (result i32)))
  ;;@memory
  (memory (export "memory") 2)
  ;;@end
  (table $table 1 funcref)
  (global $heap (mut i32) (i32.const 65536))
  ;; Free for the parts; zero at the beginning.
  (global $count (mut i32) (i32.const 0))

  ;; Texts. The name may have 64 bytes.
  (data (i32.const 2048) "NAME")
  (data (i32.const 2112) "1.0.0")
  (data (i32.const 2120) "{}")
  (data (i32.const 2124) "a/b")
  ;; 1024: the descriptor.
  (data (i32.const 1024)
    "\00\08\00\00LENGTH\00\00\00" "\40\08\00\00\05\00\00\00" "\48\08\00\00\00\00\00\00"
    "\48\08\00\00\02\00\00\00" "\48\08\00\00\02\00\00\00" "\01\00\00\00" "\01\00\00\00")
  ;; 256: ok(completed("{}")). 320: ok(progressed { 0, none, none }), all zeros.
  (data (i32.const 256) "\00\00\00\00\00\00\00\00" "\01\00\00\00\00\00\00\00" "\48\08\00\00\02\00\00\00")
  ;; 128: ok(snapshot { "a/b", 1, "{}" }). 512: ok, all zeros.
  (data (i32.const 128)
    "\00\00\00\00\00\00\00\00" "\4c\08\00\00\03\00\00\00" "\01\00\00\00" "\48\08\00\00\02\00\00\00")

  ;; Everything on a multiple of eight; nothing is ever freed.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))

  ;;@functions
  ;;@end

  (func $describe (export "waymark:task/lifecycle@0.1.0#describe") (result i32)
    ;;@describe
    ;;@end
    (i32.const 1024))

  (func $start (export "waymark:task/lifecycle@0.1.0#start") (param i32 i32) (result i32)
    ;;@start
    ;;@end
    (i32.const 512))

  (func $step (export "waymark:task/lifecycle@0.1.0#step") (result i32)
    ;;@step
    ;;@end
    (i32.const 256))

  (func $checkpoint (export "waymark:task/lifecycle@0.1.0#checkpoint") (result i32)
    ;;@checkpoint
    ;;@end
    (i32.const 128))

  (func $restore (export "waymark:task/lifecycle@0.1.0#restore") (param i32 i32 i32 i32 i32) (result i32)
    ;;@restore
    ;;@end
    (i32.const 512)))
