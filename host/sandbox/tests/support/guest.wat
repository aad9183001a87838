;; A guest in the canonical ABI of waymark:task, without a compiler: every export does the least it may.
;; The lines that begin with ;;@ are replaced by the tests; what stands between a pair of them is the default.
(module
  (import "waymark:task/job@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
  (import "waymark:task/job@0.1.0" "emit" (func $emit (param i32 i32)))
  (import "waymark:task/job@0.1.0" "spawn" (func $spawn (param i32 i32 i32 i32 i32)))
  (import "waymark:task/job@0.1.0" "idempotency-key" (func $key (param i32)))
  (import "waymark:task/job@0.1.0" "should-yield" (func $should_yield (result i32)))
  ;;@imports
  ;;@end
  ;;@memory
  (memory (export "memory") 2)
  ;;@end
  (table $table 1 funcref)
  (global $heap (mut i32) (i32.const 65536))
  (global $calls (mut i32) (i32.const 0))

  ;; 1024: the descriptor. Names and versions stand from 2048 on.
  (data (i32.const 1024)
    "\00\08\00\00\07\00\00\00" "\0c\08\00\00\05\00\00\00" "\16\08\00\00\00\00\00\00"
    "\16\08\00\00\02\00\00\00" "\16\08\00\00\02\00\00\00" "\01\00\00\00" "\01\00\00\00")
  (data (i32.const 2048) "hostile")
  (data (i32.const 2060) "1.0.0")
  (data (i32.const 2070) "{}")
  (data (i32.const 2080) "a/b")
  (data (i32.const 2090) "not json")
  ;; 256: ok(completed("{}")). 128: ok(snapshot { "a/b", 1, "{}" }). 512: ok.
  (data (i32.const 256) "\00\00\00\00\00\00\00\00" "\01\00\00\00\00\00\00\00" "\16\08\00\00\02\00\00\00")
  (data (i32.const 128) "\00\00\00\00\00\00\00\00" "\20\08\00\00\03\00\00\00" "\01\00\00\00" "\16\08\00\00\02\00\00\00")
  ;; 320: ok(progressed { 0, none, none }).
  (data (i32.const 320) "\00\00\00\00\00\00\00\00")

  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    ;; Everything on a multiple of eight; nothing is ever freed.
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
