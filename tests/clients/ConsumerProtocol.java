// Groups of the consumer protocol by the Java client, all stories in one JVM: `java -cp … ConsumerProtocol.java BOOTSTRAP PREFIX`
// prints a line for each thing that it saw: the story, a tab, what was seen. Topics are made here: PREFIX-STORY with six partitions.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class ConsumerProtocol {
    static final long MS_MAX = 30_000;
    static final int PARTITIONS = 6;
    static String bootstrap;
    static String prefix;
    static Admin admin;

    interface Story { void tell(String topic) throws Exception; }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        prefix = args[1];
        Map<String, Story> stories = new TreeMap<>();
        stories.put("shares", ConsumerProtocol::shares);
        stories.put("changes", ConsumerProtocol::changes);
        stories.put("instances", ConsumerProtocol::instances);
        stories.put("expression", ConsumerProtocol::expression);
        stories.put("resumed", ConsumerProtocol::resumed);
        stories.put("migration", ConsumerProtocol::migration);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        try (Admin made = Admin.create(properties)) {
            admin = made;
            admin.createTopics(stories.keySet().stream().map(story -> topic(prefix + "-" + story)).collect(Collectors.toList()))
                .all().get();
            for (Map.Entry<String, Story> entry : stories.entrySet()) {
                try {
                    entry.getValue().tell(prefix + "-" + entry.getKey());
                } catch (Throwable failed) {
                    failed.printStackTrace();
                    say(entry.getKey(), "failed " + failed);
                }
            }
        }
        Runtime.getRuntime().halt(0);
    }

    static NewTopic topic(String name) {
        return new NewTopic(name, PARTITIONS, (short) 1).configs(Map.of("retention.ms", "-1"));
    }

    static void say(String topic, Object seen) {
        System.out.println(topic.substring(topic.lastIndexOf('-') + 1) + "\t" + seen);
    }

    // Who owns what and what was read, of one group.
    static class Ledger {
        final Map<TopicPartition, Member> owners = new HashMap<>();
        final Map<String, Integer> read = new HashMap<>();
        final List<String> wrong = new ArrayList<>();

        synchronized void take(Member member, Collection<TopicPartition> partitions) {
            for (TopicPartition one : partitions) {
                Member owner = owners.put(one, member);
                if (owner != null && owner != member) wrong.add(one + " went to " + member.name + " while " + owner.name + " had it");
            }
        }

        synchronized void drop(Member member, Collection<TopicPartition> partitions) {
            for (TopicPartition one : partitions) owners.remove(one, member);
        }

        synchronized void note(Member member, ConsumerRecord<String, String> record) {
            TopicPartition at = new TopicPartition(record.topic(), record.partition());
            if (owners.get(at) != member) wrong.add(member.name + " read " + at + " and does not own it");
            read.merge(at + "@" + record.offset(), 1, Integer::sum);
        }

        synchronized List<Integer> shares() {
            Map<Member, Integer> counts = new HashMap<>();
            for (Member owner : owners.values()) counts.merge(owner, 1, Integer::sum);
            return counts.values().stream().sorted().collect(Collectors.toList());
        }

        synchronized Set<String> of(Member member) {
            return owners.entrySet().stream().filter(one -> one.getValue() == member).map(one -> one.getKey().toString())
                .collect(Collectors.toCollection(TreeSet::new));
        }

        synchronized int size() { return read.size(); }

        // As `wrong`, and how often records were read: [] and [1] where all is well.
        synchronized String verdict() { return wrong + " " + new TreeSet<>(read.values()); }
    }

    static class Member extends Thread implements ConsumerRebalanceListener {
        final Ledger ledger;
        final String name;
        final KafkaConsumer<String, String> consumer;
        final AtomicBoolean ending = new AtomicBoolean();
        volatile int changes;
        volatile Throwable failure;

        Member(Ledger ledger, String group, String name, Map<String, String> config) {
            super(name);
            this.ledger = ledger;
            this.name = name;
            Properties properties = new Properties();
            properties.put("bootstrap.servers", bootstrap);
            properties.put("group.id", group);
            properties.put("client.id", name);
            properties.put("group.protocol", "consumer");
            properties.put("auto.offset.reset", "earliest");
            properties.put("auto.commit.interval.ms", "200");
            properties.put("metadata.max.age.ms", "500");
            properties.putAll(config);
            consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
            setDaemon(true);
        }

        Member reads(String topic) {
            consumer.subscribe(List.of(topic), this);
            start();
            return this;
        }

        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            changes++;
            ledger.take(this, partitions);
        }

        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            changes++;
            ledger.drop(this, partitions);
        }

        public void run() {
            try {
                while (!ending.get()) for (ConsumerRecord<String, String> one : consumer.poll(Duration.ofMillis(50))) ledger.note(this, one);
            } catch (Throwable failed) {
                failure = failed;
            } finally {
                consumer.close();
            }
        }

        void end() throws Exception {
            ending.set(true);
            join(MS_MAX);
            if (failure != null) throw new Exception(name, failure);
        }
    }

    static void until(String what, Ledger ledger, BooleanSupplier done) throws Exception {
        long deadline = System.currentTimeMillis() + MS_MAX;
        while (!done.getAsBoolean()) {
            if (System.currentTimeMillis() > deadline) throw new Exception(what + " is not so: " + ledger.shares() + ", " + ledger.size() + " read");
            Thread.sleep(10);
        }
    }

    static void untilShares(Ledger ledger, Integer... shares) throws Exception {
        until("shares " + List.of(shares), ledger, () -> ledger.shares().equals(List.of(shares)));
    }

    static void untilRead(Ledger ledger, int count) throws Exception {
        until(count + " records", ledger, () -> ledger.size() >= count);
    }

    static KafkaProducer<String, String> producer() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
    }

    static void produce(String topic, int each) throws Exception {
        try (KafkaProducer<String, String> producer = producer()) {
            for (int at = 0; at < each; at++)
                for (int partition = 0; partition < PARTITIONS; partition++)
                    producer.send(new ProducerRecord<>(topic, partition, null, "value " + at));
            producer.flush();
        }
    }

    static void shares(String topic) throws Exception {
        Ledger ledger = new Ledger();
        List<Member> members = new ArrayList<>();
        for (int at = 0; at < 3; at++) members.add(new Member(ledger, topic, "shares-" + at, Map.of()).reads(topic));
        untilShares(ledger, 2, 2, 2);
        produce(topic, 20);
        untilRead(ledger, 20 * PARTITIONS);
        for (Member one : members) one.end();
        say(topic, ledger.verdict());
        say(topic, committed(topic));
    }

    static Object committed(String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream()
            .map(one -> one.offset()).sorted().collect(Collectors.toList());
    }

    static void changes(String topic) throws Exception {
        Ledger ledger = new Ledger();
        produce(topic, 5);
        Member first = new Member(ledger, topic, "changes-1", Map.of()).reads(topic);
        untilShares(ledger, 6);
        Member second = new Member(ledger, topic, "changes-2", Map.of()).reads(topic);
        untilShares(ledger, 3, 3);
        produce(topic, 5);
        Member third = new Member(ledger, topic, "changes-3", Map.of("group.remote.assignor", "range")).reads(topic);
        untilShares(ledger, 2, 2, 2);
        second.end();
        untilShares(ledger, 3, 3);
        produce(topic, 5);
        first.end();
        untilShares(ledger, 6);
        untilRead(ledger, 15 * PARTITIONS);
        third.end();
        say(topic, ledger.verdict());
    }

    static void instances(String topic) throws Exception {
        Ledger ledger = new Ledger();
        Member one = new Member(ledger, topic, "instances-1", Map.of("group.instance.id", "a")).reads(topic);
        Member two = new Member(ledger, topic, "instances-2", Map.of("group.instance.id", "b")).reads(topic);
        untilShares(ledger, 3, 3);
        Set<String> had = ledger.of(one);
        int changes = two.changes;
        one.end();
        Member back = new Member(ledger, topic, "instances-3", Map.of("group.instance.id", "a")).reads(topic);
        untilShares(ledger, 3, 3);
        say(topic, ledger.of(back).equals(had) + " " + (two.changes == changes));
        Member rival = new Member(ledger, topic, "instances-4", Map.of("group.instance.id", "a")).reads(topic);
        until("a refusal", ledger, () -> rival.failure != null);
        say(topic, rival.failure.getClass().getSimpleName());
        back.end();
        two.end();
        say(topic, ledger.wrong);
    }

    static void expression(String topic) throws Exception {
        Ledger ledger = new Ledger();
        Member member = new Member(ledger, topic, "expression-1", Map.of());
        member.consumer.subscribe(new SubscriptionPattern(topic + "(-[a-z]+)?"), member);
        member.start();
        untilShares(ledger, 6);
        admin.createTopics(List.of(topic(topic + "-late"), topic(topic + "-2"))).all().get();
        untilShares(ledger, 12);
        produce(topic + "-late", 1);
        untilRead(ledger, PARTITIONS);
        member.end();
        say(topic, ledger.verdict());
        Member wrong = new Member(ledger, topic, "expression-2", Map.of());
        wrong.consumer.subscribe(new SubscriptionPattern("(unclosed"), wrong);
        wrong.start();
        until("a refusal", ledger, () -> wrong.failure != null);
        say(topic, wrong.failure.getClass().getSimpleName());
    }

    static void resumed(String topic) throws Exception {
        for (int round = 0; round < 2; round++) {
            Ledger ledger = new Ledger();
            produce(topic, 3);
            Member member = new Member(ledger, topic, "resumed-" + round, Map.of()).reads(topic);
            untilRead(ledger, 3 * PARTITIONS);
            member.end();
            say(topic, ledger.verdict() + " " + ledger.size());
        }
    }

    // Two classic members are replaced one by one, and their successors too, while records come.
    static void migration(String topic) throws Exception {
        Ledger ledger = new Ledger();
        Map<String, String> classic = Map.of("group.protocol", "classic", "heartbeat.interval.ms", "200", "session.timeout.ms", "6000");
        Set<String> sent = new HashSet<>();
        AtomicBoolean ending = new AtomicBoolean();
        Thread stream = new Thread(() -> {
            try (KafkaProducer<String, String> producer = producer()) {
                for (int number = 0; !ending.get(); number++) {
                    RecordMetadata told = producer.send(new ProducerRecord<>(topic, number % PARTITIONS, null, "value")).get();
                    sent.add(topic + "-" + told.partition() + "@" + told.offset());
                    Thread.sleep(5);
                }
            } catch (Exception failed) {
                ledger.wrong.add("producer: " + failed);
            }
        });
        List<Member> members = new ArrayList<>();
        for (int at = 0; at < 2; at++) members.add(new Member(ledger, topic, "old-" + at, classic).reads(topic));
        untilShares(ledger, 3, 3);
        stream.start();
        for (Map<String, String> config : List.of(Map.<String, String>of(), classic)) {
            List<Member> next = new ArrayList<>();
            for (Member member : members) {
                next.add(new Member(ledger, topic, member.name + "-" + config.size(), config).reads(topic));
                untilShares(ledger, 2, 2, 2);
                member.end();
                untilShares(ledger, 3, 3);
            }
            members = next;
            say(topic, admin.describeConsumerGroups(List.of(topic)).all().get().get(topic).type());
        }
        ending.set(true);
        stream.join(MS_MAX);
        until("everything read", ledger, () -> { synchronized (ledger) { return ledger.read.keySet().containsAll(sent); } });
        for (Member member : members) member.end();
        say(topic, ledger.wrong);
    }
}
