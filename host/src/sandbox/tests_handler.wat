;; The smallest handler: what wit-component would make of one that answers with fixed bytes.
(component
  (import "tribox:handler/types@0.1.0" (instance $types
    (type $header-raw (record (field "name" string) (field "value" string)))
    (export "header" (type $header (eq $header-raw)))
    (type $message-raw (record
      (field "id" string) (field "subject" string) (field "key" (option string))
      (field "headers" (list $header)) (field "payload" (list u8)) (field "stored-at" u64)))
    (export "message" (type (eq $message-raw)))
    (type $document-raw (record
      (field "collection" string) (field "key" string) (field "body" string)))
    (export "document" (type $document (eq $document-raw)))
    (type $document-id-raw (record (field "collection" string) (field "key" string)))
    (export "document-id" (type $document-id (eq $document-id-raw)))
    (type $mutation-raw (variant (case "put" $document) (case "delete" $document-id)))
    (export "mutation" (type $mutation (eq $mutation-raw)))
    (type $delivery-raw (enum "durable" "transient"))
    (export "delivery" (type $delivery (eq $delivery-raw)))
    (type $due-raw (variant (case "after" u64) (case "at" u64)))
    (export "due" (type $due (eq $due-raw)))
    (type $outgoing-raw (record
      (field "subject" string) (field "headers" (list $header)) (field "payload" (list u8))
      (field "delivery" $delivery) (field "due" (option $due))
      (field "expires-after" (option u64)) (field "schedule-name" (option string))))
    (export "outgoing" (type $outgoing (eq $outgoing-raw)))
    (type $effects-raw (record
      (field "mutations" (list $mutation)) (field "messages" (list $outgoing))
      (field "cancellations" (list string))))
    (export "effects" (type (eq $effects-raw)))
    (type $failure-raw (variant (case "reject" string) (case "retry" string)))
    (export "failure" (type (eq $failure-raw)))
    (type $key-source-raw (variant
      (case "none") (case "subject-token" u32) (case "header" string)
      (case "payload-field" string)))
    (export "key-source" (type $key-source (eq $key-source-raw)))
    (type $subscription-raw (record
      (field "subject" string) (field "key" $key-source) (field "read-ahead" (list string))))
    (export "subscription" (type $subscription (eq $subscription-raw)))
    (type $description-raw (record
      (field "name" string) (field "version" string)
      (field "subscriptions" (list $subscription)) (field "collections" (list string))
      (field "publishes" (list string))))
    (export "description" (type (eq $description-raw)))
  ))
  (alias export $types "message" (type $message))
  (alias export $types "effects" (type $effects))
  (alias export $types "failure" (type $failure))
  (alias export $types "description" (type $description))

  (core module $code
    (memory (export "memory") 1)
    (data (i32.const 512) "h1in")
    ;; A subscription: subject, key source `none`, nothing read ahead.
    (data (i32.const 768) "\02\02\00\00" "\02\00\00\00" "\00\00\00\00")
    ;; The description: name, version, one subscription, no collections, no subjects.
    (data (i32.const 1024)
      "\00\02\00\00" "\01\00\00\00" "\01\02\00\00" "\01\00\00\00"
      "\00\03\00\00" "\01\00\00\00")
    ;; Arguments go to 4096: no test sends more than fits there.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
    (func (export "describe") (result i32)
      ;;DESCRIBE
    )
    (func (export "handle")
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)
      ;;HANDLE
    )
    ;;MODULE
  )
  (core instance $code (instantiate $code))
  (alias core export $code "memory" (core memory $memory))
  (alias core export $code "realloc" (core func $realloc))
  (func $describe (result $description)
    (canon lift (core func $code "describe") (memory $memory)))
  (func $handle (param "message" $message) (result (result $effects (error $failure)))
    (canon lift (core func $code "handle") (memory $memory) (realloc $realloc)))
  (instance $handler
    (export "describe" (func $describe))
    (export "handle" (func $handle)))
  (export "tribox:handler/handler@0.1.0" (instance $handler))
  ;;COMPONENT
)
