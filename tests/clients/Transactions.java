// Transactions by the Java client (version 2), all stories in one JVM: `java -cp … Transactions.java BOOTSTRAP PREFIX` prints a line for
// each thing that it saw: the story, a tab, what was seen. Topics are made here: PREFIX-STORY with four partitions.

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Transactions {
    static final long SECONDS_MAX = 30;
    static String bootstrap;
    static String prefix;
    static Admin admin;

    interface Story { void tell(String topic) throws Exception; }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        prefix = args[1];
        Map<String, Story> stories = new TreeMap<>();
        stories.put("ends", Transactions::ends);
        stories.put("interleaved", Transactions::interleaved);
        stories.put("offsets", Transactions::offsets);
        stories.put("fenced", Transactions::fenced);
        stories.put("late", Transactions::late);
        stories.put("empty", Transactions::empty);
        stories.put("many", Transactions::many);
        stories.put("admin", Transactions::administered);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        try (Admin made = Admin.create(properties)) {
            admin = made;
            admin.createTopics(stories.keySet().stream()
                .map(story -> new NewTopic(prefix + "-" + story, 4, (short) 1).configs(Map.of("retention.ms", "-1")))
                .collect(Collectors.toList())).all().get();
            for (Map.Entry<String, Story> entry : stories.entrySet()) {
                try {
                    entry.getValue().tell(prefix + "-" + entry.getKey());
                } catch (Exception failed) {
                    failed.printStackTrace();
                    say(entry.getKey(), "failed " + failed);
                }
            }
        }
    }

    static void say(String topic, Object seen) {
        System.out.println(topic.substring(topic.lastIndexOf('-') + 1) + "\t" + seen);
    }

    static KafkaProducer<String, String> producer(String transactionalId, int timeoutMs) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("transactional.id", transactionalId);
        properties.put("transaction.timeout.ms", timeoutMs);
        properties.put("max.block.ms", SECONDS_MAX * 1000);
        KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    static KafkaProducer<String, String> plain() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
    }

    static void write(KafkaProducer<String, String> producer, String topic, int partition, String... values) throws Exception {
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        for (String value : values) futures.add(producer.send(new ProducerRecord<>(topic, partition, null, value)));
        producer.flush();
        for (Future<RecordMetadata> future : futures) future.get();
    }

    static KafkaConsumer<String, String> consumer(String group, String level) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", group);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("isolation.level", level);
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    // The values of each partition up to the end that this isolation level sees.
    static String read(String topic, String level) {
        List<TopicPartition> partitions = IntStream.range(0, 4).mapToObj(at -> new TopicPartition(topic, at)).collect(Collectors.toList());
        List<List<String>> values = partitions.stream().map(one -> (List<String>) new ArrayList<String>()).collect(Collectors.toList());
        try (KafkaConsumer<String, String> consumer = consumer(topic + "-reader", level)) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.nanoTime() + SECONDS_MAX * 1_000_000_000;
            while (partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                if (System.nanoTime() > deadline) return "no end: " + values;
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100)))
                    values.get(record.partition()).add(record.value());
            }
        }
        return values.toString();
    }

    static String committed(String topic) { return read(topic, "read_committed"); }

    static String nameOf(Throwable failed) {
        return failed instanceof ExecutionException ? nameOf(failed.getCause()) : failed.getClass().getSimpleName();
    }

    static String failureOf(Runnable action) {
        try {
            action.run();
            return "none";
        } catch (KafkaException failed) {
            return nameOf(failed);
        }
    }

    static void ends(String topic) throws Exception {
        try (KafkaProducer<String, String> producer = producer(topic, 60_000)) {
            for (int number = 0; number < 3; number++) {
                producer.beginTransaction();
                for (int partition = 0; partition < 4; partition++) write(producer, topic, partition, "" + number);
                if (number == 1) producer.abortTransaction();
                else producer.commitTransaction();
            }
        }
        say(topic, committed(topic));
        say(topic, read(topic, "read_uncommitted"));
    }

    static void interleaved(String topic) throws Exception {
        try (KafkaProducer<String, String> first = producer(topic + "-1", 60_000); KafkaProducer<String, String> second = producer(topic + "-2", 60_000)) {
            first.beginTransaction();
            second.beginTransaction();
            for (int at = 0; at < 3; at++) {
                write(first, topic, 0, "first " + at);
                write(second, topic, 0, "second " + at);
            }
            second.commitTransaction();
            say(topic, committed(topic));
            first.abortTransaction();
            say(topic, committed(topic));
        }
    }

    @SuppressWarnings("removal") // of the constructor of another's group metadata
    static void offsets(String topic) throws Exception {
        try (KafkaProducer<String, String> input = plain()) { write(input, topic, 0, "input"); }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = consumer(topic, "read_committed"); KafkaProducer<String, String> producer = producer(topic, 60_000)) {
            consumer.subscribe(List.of(topic));
            long deadline = System.nanoTime() + SECONDS_MAX * 1_000_000_000;
            while (consumer.poll(Duration.ofMillis(100)).isEmpty())
                if (System.nanoTime() > deadline) throw new IllegalStateException("no input");
            for (int offset : new int[] {4, 10, 7}) {
                producer.beginTransaction();
                write(producer, topic, 1, "" + offset);
                producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(offset)), consumer.groupMetadata());
                if (offset == 10) producer.abortTransaction();
                else producer.commitTransaction();
                say(topic, consumer.committed(Set.of(partition)).get(partition).offset());
            }
            producer.beginTransaction();
            Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(partition, new OffsetAndMetadata(1));
            consumer.unsubscribe(); // leaves the group: its old metadata is of a member that is gone
            say(topic, failureOf(() -> producer.sendOffsetsToTransaction(offsets, new org.apache.kafka.clients.consumer.ConsumerGroupMetadata(
                topic, 77, "nobody", java.util.Optional.empty()))));
            producer.abortTransaction();
        }
        say(topic, committed(topic));
    }

    static void fenced(String topic) throws Exception {
        KafkaProducer<String, String> zombie = producer(topic, 60_000);
        zombie.beginTransaction();
        write(zombie, topic, 0, "of the zombie");
        try (KafkaProducer<String, String> heir = producer(topic, 60_000)) {
            say(topic, failureOf(zombie::commitTransaction));
            zombie.close(Duration.ZERO);
            heir.beginTransaction();
            write(heir, topic, 0, "of the heir");
            heir.commitTransaction();
            say(topic, committed(topic));
            admin.fenceProducers(List.of(topic)).all().get();
            heir.beginTransaction();
            String failure = "none";
            try {
                write(heir, topic, 0, "of the fenced heir");
            } catch (ExecutionException | KafkaException failed) {
                failure = nameOf(failed);
            }
            say(topic, failure);
        }
        say(topic, committed(topic));
    }

    static void late(String topic) throws Exception {
        KafkaProducer<String, String> slow = producer(topic, 1000);
        slow.beginTransaction();
        write(slow, topic, 0, "too late");
        try (KafkaProducer<String, String> plain = plain()) { write(plain, topic, 0, "behind it"); }
        long deadline = System.nanoTime() + SECONDS_MAX * 1_000_000_000;
        while (committed(topic).equals("[[], [], [], []]") && System.nanoTime() < deadline) Thread.sleep(20);
        say(topic, committed(topic));
        String failure = "none";
        try {
            write(slow, topic, 0, "even later");
            slow.commitTransaction();
        } catch (ExecutionException | KafkaException failed) {
            failure = nameOf(failed);
        }
        say(topic, failure);
        slow.close(Duration.ZERO);
        say(topic, committed(topic));
    }

    static void empty(String topic) throws Exception {
        try (KafkaProducer<String, String> producer = producer(topic, 60_000)) {
            for (int number = 0; number < 2; number++) {
                producer.beginTransaction();
                producer.commitTransaction();
                producer.beginTransaction();
                producer.abortTransaction();
            }
            producer.beginTransaction();
            write(producer, topic, 0, "after them");
            producer.commitTransaction();
        }
        say(topic, committed(topic));
    }

    // Each transaction has an epoch of its own; the ids and epochs are asked of the partition's producers.
    static void many(String topic) throws Exception {
        try (KafkaProducer<String, String> producer = producer(topic, 60_000)) {
            for (int number = 0; number < 100; number++) {
                producer.beginTransaction();
                write(producer, topic, number % 4, "" + number);
                if (number % 10 == 9) producer.abortTransaction();
                else producer.commitTransaction();
            }
        }
        say(topic, committed(topic));
        int newest = -1;
        for (int partition = 0; partition < 4; partition++)
            for (ProducerState state : admin.describeProducers(List.of(new TopicPartition(topic, partition)))
                    .partitionResult(new TopicPartition(topic, partition)).get().activeProducers())
                newest = Math.max(newest, state.producerEpoch());
        say(topic, newest);
    }

    static void administered(String topic) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 2);
        try (KafkaProducer<String, String> producer = producer(topic, 60_000)) {
            producer.beginTransaction();
            write(producer, topic, 2, "aborted by hand");
            TransactionDescription described = admin.describeTransactions(List.of(topic)).description(topic).get();
            say(topic, described.state() + " " + described.topicPartitions() .equals(Set.of(partition)) + " " + described.transactionTimeoutMs()
                + " " + described.transactionStartTimeMs().isPresent());
            say(topic, admin.listTransactions(new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))).all().get()
                .stream().filter(one -> one.transactionalId().equals(topic)).map(one -> one.state() + " " + (one.producerId() == described.producerId()))
                .collect(Collectors.toList()));
            say(topic, admin.listTransactions(new ListTransactionsOptions().filterOnDuration(3_600_000)).all().get().stream()
                .filter(one -> one.transactionalId().equals(topic)).count());
            ProducerState state = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers().get(0);
            say(topic, state.currentTransactionStartOffset().getAsLong() + " " + (state.producerId() == described.producerId()) + " "
                + (state.producerEpoch() == described.producerEpoch()));
            admin.abortTransaction(new AbortTransactionSpec(partition, state.producerId(), (short) state.producerEpoch(),
                state.coordinatorEpoch().orElse(0))).all().get();
            say(topic, committed(topic) + " " + read(topic, "read_uncommitted"));
            producer.abortTransaction();
        } catch (KafkaException failed) {
            say(topic, "end " + nameOf(failed));
        }
        String gone = "none";
        try {
            admin.describeTransactions(List.of(topic + "-none")).all().get();
        } catch (ExecutionException failed) {
            gone = nameOf(failed);
        }
        say(topic, gone);
    }
}
